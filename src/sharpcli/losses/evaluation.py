"""Mean loss and accuracy of many samples, with what they may be off by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_LOSS, _RIGHT, _WEIGHT, _COUNT = 0, 1, 2, -1  # Rows of `Loss.sample_sums`; without weights the last two are one row.


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over all loss terms of N samples, with the standard error of each mean.

    Samples are taken as independent of each other, the terms of one sample (its tokens, its labels) are not.
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
            means: The sum of the `moments` of all samples, divided by the total weight.
            num_samples: N.
            total_weight: Sum of the weights of all loss terms.
            classified: Whether there is an accuracy. It is not weighted: each loss term counts once.
        """
        loss, loss_error = _ratio(means, _LOSS, _WEIGHT, num_samples, total_weight)
        right, right_error = _ratio(means, _RIGHT, _COUNT, num_samples, total_weight)
        return Evaluation(loss, loss_error, right if classified else None, right_error if classified else None, num_samples)


def moments(sums: Tensor) -> Tensor:
    """Return the sums over samples of `Loss.sample_sums` (R, B), and of the products of any two, shape (R, 1 + R)."""
    return torch.cat([sums.sum(1, keepdim=True), sums @ sums.T], 1)


def _ratio(means: Tensor, row: int, by: int, num_samples: int, total_weight: float) -> tuple[float, float]:
    """Return the ratio of two sums over samples, Σ s_i / Σ n_i, and its standard error; NaN for one sample, which has none.

    References:
        Cochran, Sampling Techniques, 3rd ed., section 6.3. With one term a sample it is that of a plain mean.
    """
    divisor, products = float(means[by, 0]), means[:, 1:]
    mean = float(means[row, 0]) / divisor
    variance = float(products[row, row] - 2 * mean * products[row, by] + mean**2 * products[by, by])
    if num_samples < 2 or not math.isfinite(variance):
        return mean, math.nan
    return mean, math.sqrt(max(variance, 0) / total_weight * num_samples / (num_samples - 1)) / divisor


class Guess(NamedTuple):
    """What the best single answer for all samples reaches, without looking at any input.

    Attributes:
        loss: Its mean loss.
        accuracy: The share of terms that it predicts right; None where there is no accuracy.
    """

    loss: float
    accuracy: float | None
