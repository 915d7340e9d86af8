"""What products with random vectors are good for: their rounding, their noise, and what their operator measures itself."""

from __future__ import annotations

import math

from torch import Tensor

from sharpcli.linalg.certify import rounding_of
from sharpcli.linalg.operator import SymmetricOperator, measured_error, product_error
from sharpcli.linalg.reductions import dot


class Accuracy:
    """Watches products, and tells how far one with a random unit vector may be off.

    Rounding is in parts of the products seen, which are much shorter than ‖A‖ where the outliers are taken out. Noise
    shows in u_iᵀAu_j against u_jᵀAu_i of vectors that follow each other: a random error of length e is some e/√P there.
    """

    def __init__(self, operator: SymmetricOperator) -> None:
        self._operator = operator
        self._measured: float | None
        self._before: tuple[Tensor, Tensor] | None = None
        self._squares, self._count = 0.0, 0
        self._asymmetry, self._measured = 0.0, None

    def see(self, vector: Tensor, product: Tensor, length: float) -> None:
        """Take note of a product, of that length, with a unit vector (P,)."""
        if self._measured is None:
            self.see_error(vector, length)
        if self._before is not None:
            other, image = self._before
            self._asymmetry = max(self._asymmetry, abs(dot(other, product) - dot(vector, image)))
        self._before = vector, product
        self._squares, self._count = self._squares + length**2, self._count + 1

    def see_error(self, vector: Tensor, length: float) -> None:
        """Have the operator measure its error along a random unit vector (P,), which is done once."""
        self._measured = measured_error(self._operator, vector, length)

    @property
    def length(self) -> float:
        """Root mean square of the lengths of products."""
        return math.sqrt(self._squares / max(self._count, 1))

    @property
    def error(self) -> float:
        """How long the error of a product with a random unit vector may be."""
        size = self._operator.shape[0]
        rounding = rounding_of(self._operator.dtype, self.length, size=size, measured=self._measured or 0.0)
        return rounding + math.sqrt(size) * self._asymmetry + product_error(self._operator)

    def off(self, count: int) -> tuple[float, float]:
        """Return how far the sums of uᵀAu and of ‖Au‖² over an orthonormal basis of so many vectors may be off."""
        return count * self.error, count * self.error * (2 * self.length + self.error)
