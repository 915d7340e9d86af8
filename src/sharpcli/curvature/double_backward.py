"""Hessian products by differentiating twice in reverse mode; all other engines are compared with this engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.objective import Objective


class DoubleBackward:
    """Hv as the derivative of gᵀv; it works for everything that can be differentiated twice.

    The gradient g does not depend on v, so it can be stored for further products.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """

    keeps = True
    compiled = False

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @property
    def words(self) -> str:
        """The name of the engine in messages."""
        return "fused double backward" if self._objective.fused else "double backward"

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Gradient:
        """Return the gradient of a chunk's summed loss."""
        parameters = list(leaves.values())
        loss = self._objective.loss_sum(leaves, chunk)
        slopes = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
        return Gradient(parameters, slopes)


class Gradient(NamedTuple):
    """The gradient of one chunk's summed loss, still attached to the parameters it depends on."""

    leaves: list[Tensor]
    slopes: Sequence[Tensor]

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """Return the derivative of the gradient along a vector."""
        # If the loss is linear in a parameter, its gradient does not depend on θ: its rows are zero.
        pairs = [(slope, part) for slope, part in zip(self.slopes, parts, strict=True) if slope.requires_grad]
        if not pairs:
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        slopes, directions = zip(*pairs, strict=True)
        return torch.autograd.grad(
            slopes, self.leaves, directions, retain_graph=keep, allow_unused=True, materialize_grads=True
        )

    def saved_bytes(self) -> None:
        """Return None: autograd holds the graph."""
