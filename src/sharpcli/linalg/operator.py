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
