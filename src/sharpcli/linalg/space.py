"""The space of the vectors of a search: a process holds each vector completely, or only its share of the numbers.

With several processes the basis is the largest part of the memory. If it is divided, each process stores its share of every
vector, and an inner product is a sum over processes. A product of the operator needs the whole vector, for a moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli.linalg import reductions
from sharpcli.linalg.operator import SymmetricOperator, measured_error, product_error
from sharpcli.processes import SOLO, Processes


@dataclass(frozen=True, eq=False)
class Space:
    """Inner products of vectors (P,), of which this process holds `width` numbers.

    Attributes:
        dimension: P.
        processes: The processes over which vectors are divided; `SOLO` if each has all numbers.
    """

    dimension: int
    processes: Processes = SOLO

    @property
    def width(self) -> int:
        """The number of numbers of a vector that this process holds."""
        low, high = self.processes.bounds(self.dimension)
        return high - low

    def own(self, vectors: Tensor) -> Tensor:
        """Return the share of this process of one or more whole vectors (..., P), shape (..., width)."""
        if self.processes.size == 1:
            return vectors
        low, high = self.processes.bounds(self.dimension)
        return vectors[..., low:high].clone()

    def whole(self, own: Tensor) -> Tensor:
        """Return one or more whole vectors (..., P) from the shares of all processes."""
        return own if self.processes.size == 1 else self.processes.joined_shares(own, self.dimension)

    def summed(self, sums: Tensor) -> Tensor:
        """Return sums over the numbers of vectors, from the sums over the share of this process."""
        return self.processes.sum(sums, torch.zeros(1))

    def square(self, vector: Tensor) -> Tensor:
        """Return the squared norm of a vector, shape ()."""
        return self.summed(reductions.square(vector))

    def norm(self, vector: Tensor) -> float:
        """Return the norm of a vector."""
        return math.sqrt(float(self.square(vector)))

    def dot(self, first: Tensor, second: Tensor) -> float:
        """Return the inner product of two vectors."""
        if self.processes.size == 1:
            return reductions.dot(first, second)
        return float(self.summed(reductions.project(first.unsqueeze(0), second))[0])

    def project(self, rows: Tensor, vector: Tensor) -> Tensor:
        """Return the inner products (M,) of rows (M, width) with a vector."""
        return self.summed(reductions.project(rows, vector))


class Divided:
    """An operator on whole vectors, as an operator on the shares of a process."""

    def __init__(self, operator: SymmetricOperator, space: Space) -> None:
        self._operator, self._space = operator, space

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, P)."""
        return self._operator.shape

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors."""
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self._operator.device

    @property
    def product_error(self) -> float:
        """The largest error of a product that the operator has measured itself; see `operator.product_error`."""
        return product_error(self._operator)

    def __matmul__(self, own: Tensor) -> Tensor:
        """Return the share of this process of the product with a vector."""
        return self._space.own(self._operator @ self._space.whole(own))

    def measured_error(self, own: Tensor, length: float) -> float:
        """Return the error of a product with a vector; see `operator.measured_error`."""
        return measured_error(self._operator, self._space.whole(own), length)
