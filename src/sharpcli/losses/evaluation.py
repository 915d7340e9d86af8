"""Mean loss and accuracy of many samples, with what they may be off by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


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
    def of(means: Tensor, num_samples: int, num_terms: int, *, classified: bool) -> Evaluation:
        """Make one of the `moments` of all samples, added up and divided by the number of terms; no accuracy for numbers."""
        loss, right = (float(mean) for mean in means[:2, 0])
        errors = [_standard_error(means, row, num_samples, num_terms) for row in (0, 1)]
        return Evaluation(loss, errors[0], right if classified else None, errors[1] if classified else None, num_samples)


def moments(sums: Tensor) -> Tensor:
    """Return the sums over samples of `Loss.sample_sums` (3, B), and of the products of any two, shape (3, 1 + 3)."""
    return torch.cat([sums.sum(1, keepdim=True), sums @ sums.T], 1)


def _standard_error(means: Tensor, row: int, num_samples: int, num_terms: int) -> float:
    """Return that of a ratio of sums over samples, Σ s_i / Σ n_i; NaN for one sample, which has none.

    References:
        Cochran, Sampling Techniques, 3rd ed., section 6.3. With one term a sample it is that of a plain mean.
    """
    mean, products = float(means[row, 0]), means[:, 1:]
    variance = float(products[row, row] - 2 * mean * products[row, 2] + mean**2 * products[2, 2])
    if num_samples < 2 or not math.isfinite(variance):
        return math.nan
    return math.sqrt(max(variance, 0) / num_terms * num_samples / (num_samples - 1))


class Guess(NamedTuple):
    """What the best single answer for all samples reaches, without looking at any input.

    Attributes:
        loss: Its mean loss.
        accuracy: The share of terms that it predicts right; None where there is no accuracy.
    """

    loss: float
    accuracy: float | None
