"""Have several chains mixed? Split R̂ of block means, the drift from the first half to the second, and an interval.

Reference: Gelman et al., Bayesian Data Analysis, 3rd edition, section 11.4 (split R̂).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

LEAST_DRAWS = 20  # Per chain.
_BLOCKS = 10  # In a half of a chain.
_LARGEST_R_HAT = 1.15  # Of four chains that have mixed, one in a thousand is above: a quantile of F(7, 72).
_LARGEST_DRIFT = 3.0  # Standard errors.
_LEVEL = 0.975


@dataclass(frozen=True)
class Mixing:
    """The mean of independent chains, and whether it can be trusted.

    Attributes:
        mean: Mean over all draws.
        standard_error: Of the mean, from the differences between the chains.
        lower: Lower end of the 95 % interval, by Student's t with one degree of freedom less than chains.
        upper: Upper end of the interval.
        r_hat: Split R̂ of the means of blocks of draws.
        drift: Mean over chains of the second half of the draws minus the first half.
        drift_error: Standard error of the drift: from the chains, or from the blocks if that is larger.
        why_not: What shows that the chains have not mixed; empty if nothing does.
    """

    mean: float
    standard_error: float
    lower: float
    upper: float
    r_hat: float
    drift: float
    drift_error: float
    why_not: str


def mixing(chains: Sequence[Tensor]) -> Mixing:
    """Return the mean of chains and the checks of it.

    R̂ compares the spread of the half chains with the spread inside them. Neighbouring draws are alike, and single draws can
    be much noisier than the means of interest; so both spreads are those of block means, ten blocks in each half. Where the
    chains need about a block or more to forget, R̂ is well above 1.

    Args:
        chains: Two or more, each with the same number of draws, at least `LEAST_DRAWS`; shape (T,) each.
    """
    draws = torch.stack([chain.double() for chain in chains])
    count = len(draws)
    half = draws.shape[1] // 2
    halves = torch.stack([draws[:, :half].mean(1), draws[:, -half:].mean(1)])
    means = draws.mean(1)
    mean, error = _mean_and_error(means)
    drift, drift_error = _mean_and_error(halves[1] - halves[0])
    blocks = _blocks(torch.cat([draws[:, :half], draws[:, -half:]]))
    # Of four chains alone, one time in twenty the error would be a third of what it should be.
    drift_error = max(drift_error, math.sqrt(2 * float(blocks.var(1).mean()) / blocks.shape[1] / count))
    r_hat = _r_hat(blocks)
    reach = float(stdtrit(count - 1, _LEVEL)) * error
    signs = []
    if not r_hat <= _LARGEST_R_HAT:
        signs.append(f"R̂ is {r_hat:.3g}, above {_LARGEST_R_HAT:g}")
    if abs(drift) > _LARGEST_DRIFT * drift_error:
        signs.append(f"the second half of the draws is {abs(drift):.3g} {'above' if drift > 0 else 'below'} the first")
    return Mixing(mean, error, mean - reach, mean + reach, r_hat, drift, drift_error, ", and ".join(signs))


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def _blocks(parts: Tensor) -> Tensor:
    """Return the block means of half chains (2 C, T/2), shape (2 C, blocks)."""
    number = min(_BLOCKS, parts.shape[1])
    length = parts.shape[1] // number
    return parts[:, parts.shape[1] - number * length :].reshape(len(parts), number, length).mean(2)


def _r_hat(blocks: Tensor) -> float:
    """Return R̂ of half chains from their block means (2 C, blocks); 1 if all are equal."""
    within, between = float(blocks.var(1).mean()), float(blocks.mean(1).var())
    if not within:
        return math.inf if between else 1.0
    number = blocks.shape[1]
    return math.sqrt((number - 1) / number + between / within)
