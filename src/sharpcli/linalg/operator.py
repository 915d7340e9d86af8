"""What the solvers need of a matrix: its shape and its products with vectors."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A symmetric map on vectors (P,); a dense tensor is one, and so are the operators of curvlinops and CoLA."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, P)."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where the vectors live."""

    def __matmul__(self, vector: Tensor, /) -> Tensor:
        """Return the product with a vector (P,)."""


def measured_error(operator: SymmetricOperator, vector: Tensor, length: float) -> float:
    """Return how long the error of the product with a unit vector (P,) is, as the operator measures it itself; else 0.

    An operator may have a method `measured_error(vector, length)`, such as one that multiplies in a wider type. It is to see
    what repeats alike in every product, and so shows in no comparison of products with each other.

    Args:
        operator: That was multiplied.
        vector: By which.
        length: About how long the product is.
    """
    own = getattr(operator, "measured_error", None)
    return float(own(vector, length)) if own else 0.0


def product_error(operator: SymmetricOperator) -> float:
    """Return the largest error of a product with a unit vector that the operator has measured itself so far, else 0.

    An operator whose products are approximate, such as differences of gradients, has an attribute `product_error`.
    """
    return float(getattr(operator, "product_error", 0.0))
