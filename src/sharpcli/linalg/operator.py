"""The interface of a matrix for the solvers: its shape and its products with vectors."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A symmetric map on vectors (P,), such as a dense tensor or an operator of curvlinops or CoLA."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, P)."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors."""

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""

    def __matmul__(self, vector: Tensor, /) -> Tensor:
        """Return the product with a vector (P,)."""


def measured_error(operator: SymmetricOperator, vector: Tensor, length: float) -> float:
    """Return the length of the error of the product with a unit vector (P,), if the operator can measure it; else 0.

    An operator may have a method `measured_error(vector, length)`, for example with a product in a wider type. It detects
    errors that are the same in every product, which a comparison of products cannot show.

    Args:
        operator: The operator.
        vector: The unit vector.
        length: Approximate length of the product.
    """
    own = getattr(operator, "measured_error", None)
    return float(own(vector, length)) if own else 0.0


def product_error(operator: SymmetricOperator) -> float:
    """Return the largest error of a product with a unit vector that the operator has measured itself so far; else 0.

    An operator whose products are approximate, such as differences of gradients, has an attribute `product_error`.
    """
    return float(getattr(operator, "product_error", 0.0))
