"""Gradient noise scale: the batch size at which noise and gradient are equally large, tr Σ / |∇f|².

Reference: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, section 2.2 (the simple noise scale).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import SettingsError
from sharpcli.measures._reading import Meter
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "B = tr Σ / |∇f|², Σ the covariance of the samples' gradients"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = "At a minimiser |∇f| is nearly 0 and B explodes: read tr Σ then, which is among the details."
COST = "1 gradient"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0, groups: int = 50) -> Reading:
    """Return B from the gradients of groups of samples drawn at random.

    Between groups of b samples, b / (k - 1) Σ |g_j - ḡ|² is an unbiased estimate of tr Σ (with N - 1 in its own divisor).

    Args:
        objective: f, the mean loss over N samples with one loss term each.
        theta: Shape (P,).
        seed: Of the groups.
        groups: k, at least 2 and at most N.

    Raises:
        SettingsError: Too few groups.
    """
    if not groups >= 2:
        raise SettingsError(f"The option groups is {groups}, but must be at least 2.", "Give groups another value.")
    meter = Meter("gradient-noise", objective, theta, {"groups": groups}, unit="samples")
    leaves = objective.leaves(theta)

    def slope(chunk: object) -> Tensor:
        loss = objective.loss_sum(leaves, chunk)  # type: ignore[arg-type]
        parts = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return objective.space.flatten(parts)

    # Σ n_j |g_j - ḡ|² = Σ |s_j|² / n_j - |Σ s_j|² / Σ n_j with sums s_j over n_j terms: one vector is kept, not one a group.
    total, squares, terms, number = torch.zeros_like(theta, dtype=torch.float64), 0.0, 0, 0
    with progress.task("gradient noise", total=min(groups, objective.num_samples)) as shown:
        for group in objective.groups(groups, seed):
            part = objective.sum_over(group.chunks, slope).double()
            total += part
            squares += float(part @ part) / group.num_terms
            terms, number = terms + group.num_terms, number + 1
            shown.advance(1)
    meter.passes = 2
    square = float(total @ total) / terms**2
    trace = (squares - terms * square) / (number - 1)
    return meter.reading(trace / square if square else None, trace_of_covariance=trace, squared_gradient=square)
