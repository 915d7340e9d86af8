"""The accuracy of products with random vectors: rounding, noise, and the error that the operator measures itself."""

from __future__ import annotations

import math

from torch import Tensor

from sharpcli.linalg.certify import rounding_of
from sharpcli.linalg.operator import SymmetricOperator, measured_error, product_error
from sharpcli.linalg.reductions import dot


class Accuracy:
    """Records products, and estimates the error of a product with a random unit vector.

    Rounding is relative to the length of the recorded products, which is much smaller than ‖A‖ if the outliers are deflated.
    Noise is measured as |u_iᵀAu_j - u_jᵀAu_i| for consecutive vectors: a random error of length e changes it by about e/√P.
    """

    def __init__(self, operator: SymmetricOperator) -> None:
        self._operator = operator
        self._measured: float | None
        self._before: tuple[Tensor, Tensor] | None = None
        self._squares, self._count = 0.0, 0
        self._asymmetry, self._measured = 0.0, None

    def see(self, vector: Tensor, product: Tensor, length: float) -> None:
        """Record a product with a unit vector (P,), and the length of the product."""
        if self._measured is None:
            self.see_error(vector, length)
        if self._before is not None:
            other, image = self._before
            self._asymmetry = max(self._asymmetry, abs(dot(other, product) - dot(vector, image)))
        self._before = vector, product
        self._squares, self._count = self._squares + length**2, self._count + 1

    def see_error(self, vector: Tensor, length: float) -> None:
        """Let the operator measure its error along a random unit vector (P,); this is done once."""
        self._measured = measured_error(self._operator, vector, length)

    @property
    def length(self) -> float:
        """Root mean square of the lengths of products."""
        return math.sqrt(self._squares / max(self._count, 1))

    @property
    def error(self) -> float:
        """Bound on the length of the error of a product with a random unit vector."""
        size = self._operator.shape[0]
        rounding = rounding_of(self._operator.dtype, self.length, size=size, measured=self._measured or 0.0)
        return rounding + math.sqrt(size) * self._asymmetry + product_error(self._operator)

    def off(self, count: int) -> tuple[float, float]:
        """Return bounds on the errors of the sums of uᵀAu and of ‖Au‖² over an orthonormal basis of `count` vectors."""
        return count * self.error, count * self.error * (2 * self.length + self.error)
