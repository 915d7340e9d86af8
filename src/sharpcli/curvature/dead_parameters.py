"""Parameters in which the Hessian is zero by construction."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpcli import graphs
from sharpcli.objective import Objective


def dead_parameters(objective: Objective) -> dict[str, str]:
    """Return the parameters without any curvature, by name, each with the reason, from a few samples.

    The reasons "unused", "linear" and "padding" (of a row) are those of `graphs.without_curvature`: the rows of the Hessian
    are zero by construction. Parameters with "frozen", "not selected" and "tied to NAME" are not part of θ.
    """
    leaves = objective.leaves(objective.parameters())
    with objective.arithmetic():
        without = graphs.without_curvature(objective.loss_sum(leaves, objective.few()), leaves)
    return {**without, **objective.left_out}


def varying(objective: Objective) -> Tensor:
    """Return 1 for each parameter, and 0 for those of a padding row, which are constants for torch, shape (P,)."""
    leaves, mask = objective.leaves(objective.parameters()), torch.ones_like(objective.parameters())
    with objective.arithmetic():
        rows = graphs.padding_rows(objective.loss_sum(leaves, objective.few()), leaves)
    parts = objective.space.split(mask)
    for name, row in rows.items():
        parts[name][row] = 0
    return mask
