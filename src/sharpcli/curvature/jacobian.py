"""Products with JᵀMJ, where J is the Jacobian of what a chunk gives in the parameters: exact, without forming J."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sandwich:
    """JᵀMJ of one chunk, with M a symmetric map on what the chunk gives.

    Jv is the derivative of the linear map u -> Jᵀu along v (Townsend 2017, "A new trick for calculating
    Jacobian vector products"), so all that can be differentiated twice will do; forward differentiation knows fewer operations.

    Attributes:
        leaves: The parameters.
        given: What the chunk gives, of any shape, still attached to the parameters.
        dummy: u, of the shape of `given`.
        slopes: Jᵀu in the shapes of the parameters, still attached to u.
        middle: M.
    """

    leaves: list[Tensor]
    given: Tensor
    dummy: Tensor
    slopes: Sequence[Tensor]
    middle: Callable[[Tensor], Tensor]

    @staticmethod
    def of(leaves: list[Tensor], given: Tensor, middle: Callable[[Tensor], Tensor]) -> Sandwich:
        """Differentiate once; `middle` may not depend on the vector."""
        dummy = torch.zeros_like(given, requires_grad=True)
        slopes = torch.autograd.grad(given, leaves, dummy, create_graph=True, allow_unused=True, materialize_grads=True)
        return Sandwich(leaves, given, dummy, slopes, middle)

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """Return JᵀMJv."""
        # A parameter that is not used has a slope that depends on nothing.
        pairs = [(slope, part) for slope, part in zip(self.slopes, parts, strict=True) if slope.requires_grad]
        slopes, directions = zip(*pairs, strict=True)
        (along,) = torch.autograd.grad(slopes, self.dummy, directions, retain_graph=keep)
        with torch.no_grad():
            back = self.middle(along)
        return torch.autograd.grad(self.given, self.leaves, back, retain_graph=keep, allow_unused=True, materialize_grads=True)
