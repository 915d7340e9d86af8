"""The Hessian of an objective as a symmetric operator: exact products by differentiating twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.operator import CurvatureOperator


class HessianOperator(CurvatureOperator):
    """H(θ) = ∇²f(θ) as a map on vectors (P,), by double backward over all the data.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """

    method = "double backward"

    def _differentiate(self, chunk: Chunk, leaves: dict[str, Tensor]) -> _Gradient:
        parameters = list(leaves.values())
        loss = self.objective.loss_sum(leaves, chunk)
        slopes = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
        return _Gradient(parameters, slopes)


class _Gradient(NamedTuple):
    """The gradient of one chunk's summed loss, still attached to the parameters it depends on."""

    leaves: list[Tensor]
    slopes: Sequence[Tensor]

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """Return the derivative of the gradient along a vector."""
        # A parameter the loss is linear in has a gradient that depends on nothing: its rows are zero.
        pairs = [(slope, part) for slope, part in zip(self.slopes, parts, strict=True) if slope.requires_grad]
        if not pairs:
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        slopes, directions = zip(*pairs, strict=True)
        return torch.autograd.grad(
            slopes, self.leaves, directions, retain_graph=keep, allow_unused=True, materialize_grads=True
        )
