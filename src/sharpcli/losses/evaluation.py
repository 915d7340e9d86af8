"""Mean loss and accuracy over samples, with their standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_LOSS, _RIGHT, _WEIGHT, _COUNT = 0, 1, 2, -1  # Rows of `Loss.sample_sums`; without weights, the last two are the same.


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over all loss terms of N samples, with the standard error of each mean.

    The standard errors assume that samples are independent, but not that the terms of one sample (its tokens or labels) are.

    Attributes:
        loss: Mean loss: the sum of the loss terms divided by their total weight.
        loss_standard_error: NaN if it cannot be computed, such as for one sample.
        accuracy: Fraction of the loss terms that are predicted correctly, 0 to 1; None if the loss defines no accuracy.
        accuracy_standard_error: As for the loss; None if there is no accuracy.
        num_samples: N.
    """

    loss: float
    loss_standard_error: float
    accuracy: float | None
    accuracy_standard_error: float | None
    num_samples: int

    @staticmethod
    def of(means: Tensor, num_samples: int, total_weight: float, *, classified: bool) -> Evaluation:
        """Return the evaluation of a data set.

        Args:
            means: The sum of the `moments` of all samples, divided by the total weight, shape (R, 1 + R).
            num_samples: N.
            total_weight: Sum of the weights of all loss terms.
            classified: Whether there is an accuracy. The accuracy is not weighted: each loss term counts once.
        """
        means = means.cpu()  # The host waits once.
        loss, loss_error = _ratio(means, _LOSS, _WEIGHT, num_samples, total_weight)
        right, right_error = _ratio(means, _RIGHT, _COUNT, num_samples, total_weight)
        return Evaluation(loss, loss_error, right if classified else None, right_error if classified else None, num_samples)


def moments(sums: Tensor) -> Tensor:
    """Return the sum over samples of each row of `Loss.sample_sums`, (R, B), and of each product of two rows: (R, 1 + R)."""
    return torch.cat([sums.sum(1, keepdim=True), sums @ sums.T], 1)


def _ratio(means: Tensor, row: int, by: int, num_samples: int, total_weight: float) -> tuple[float, float]:
    """Return the ratio of two sums over samples, Σ s_i / Σ n_i, and its standard error, which is NaN for one sample.

    If each sample has one term, this is the standard error of a plain mean.

    Args:
        means: As in `Evaluation.of`.
        row: Row of s.
        by: Row of n.
        num_samples: N.
        total_weight: Number by which `means` was divided.

    References:
        Cochran, Sampling Techniques, 3rd ed., section 6.3.
    """
    divisor, products = float(means[by, 0]), means[:, 1:]
    mean = float(means[row, 0]) / divisor
    variance = float(products[row, row] - 2 * mean * products[row, by] + mean**2 * products[by, by])
    if num_samples < 2 or not math.isfinite(variance):
        return mean, math.nan
    return mean, math.sqrt(max(variance, 0) / total_weight * num_samples / (num_samples - 1)) / divisor


class Guess(NamedTuple):
    """Loss and accuracy of the best constant prediction, which is the same for all samples and does not use the inputs.

    Attributes:
        loss: Mean loss of this prediction; 0 also means that it is not known, for a loss that is code of the user.
        accuracy: Fraction of the loss terms for which the most frequent class is correct; None if there is no accuracy.
    """

    loss: float
    accuracy: float | None
