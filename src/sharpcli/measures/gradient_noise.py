"""Gradient noise scale: the batch size at which noise and gradient are equally large, tr Σ / |∇f|².

Reference: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, section 2.2 (the simple noise scale).
"""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.measures._reading import Meter, require_at_least
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "B = tr Σ / |∇f|², Σ the covariance of the samples' gradients"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = "At a minimiser |∇f| is nearly 0 and B is very large: use tr Σ there, which is in the details."
COST = "2 gradients"
VARIANTS: tuple[dict[str, object], ...] = ({},)
_ROUNDINGS = 4.0  # Units of rounding in the mean, relative to the samples' gradients.


def read(objective: Objective, theta: Tensor, *, seed: int = 0, groups: int = 50) -> Reading:
    """Return B from the gradients of random groups of samples.

    For groups of b samples, b / (k - 1) Σ |g_j - ḡ|² is an unbiased estimate of tr Σ (where Σ has the divisor N - 1). The
    standard error is that of the random groups, not of the random data, and too large for groups of a few samples.

    Args:
        objective: f, the mean loss over N samples with one loss term each.
        theta: Shape (P,).
        seed: Seed of the groups.
        groups: k, at least 2 and at most N.

    Returns:
        B; failed with a single sample or group, or if the gradient is 0 up to rounding.

    Raises:
        SettingsError: Too few groups.
    """
    require_at_least(2, groups=groups)
    meter = Meter("gradient-noise", objective, theta, {"groups": groups}, unit="samples")
    leaves = objective.leaves(theta)

    def slope(chunk: object) -> Tensor:
        loss = objective.loss_sum(leaves, chunk)  # type: ignore[arg-type]
        parts = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return objective.space.flatten(parts)

    gradient, deviations = objective.gradient(theta), []
    of_one_term = objective.num_terms / objective.total_weight  # With class weights, sizes are counted in mean weights.
    with progress.task("gradient noise", total=min(groups, objective.num_samples), units="gradients") as shown:
        for group in objective.groups(groups, seed):
            apart = objective.sum_over(group.chunks, slope, theta).double() / group.total_weight - gradient
            deviations.append(group.total_weight * of_one_term * float(apart @ apart))
            shown.advance(1)
    meter.passes, number = 4, len(deviations)
    if number < 2:
        return meter.reading(None, note="There is only one sample, or one group of samples.")
    trace, square = sum(deviations) / (number - 1), float(gradient @ gradient)
    # If every group is one sample, nothing is random.
    error = statistics.stdev(deviations) * math.sqrt(number) / (number - 1) if number < objective.num_samples else 0.0
    known = square > (_ROUNDINGS * torch.finfo(objective.runtime.dtype).eps) ** 2 * (trace + square)
    return meter.reading(
        trace / square if known else None,
        standard_error=error / square if known else None,
        note="" if known else "The gradient is 0 up to rounding, and B divides by its square: use tr Σ instead.",
        trace_of_covariance=trace,
        squared_gradient=square,
    )
