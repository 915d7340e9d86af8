"""Certificates for approximate eigenvalues: error bounds from residual, noise and rounding, and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from sharpcli.errors import InputError, NumericalError

Verdict = Literal["certified", "noise-limited", "budget-limited", "refused"]

ORTHOGONAL = 1e-5  # Largest |v_iᵀv_j| of a basis whose Ritz values can be counted; above it "ghosts" appear.
DETERMINISTIC = 1e-2  # Largest disagreement of products, relative to ‖A‖, of a deterministic operator.
SUSPICIOUS = 1e-4  # Asymmetry relative to ‖A‖ that rounding cannot explain; above it the last product is repeated.
IMPRECISE = 0.1  # Error of products, relative to ‖A‖, above which almost no digit is correct.
_ROUNDING = 10  # Error of a product in units of ε ‖A‖ that is allowed for; errors of 1 to 6 were observed in float32.
_MEASURED = 2  # Factor on the error measured along a few vectors, because other vectors have other errors.


@dataclass(frozen=True)
class Trust:
    """The measured accuracy of an operator's products.

    Attributes:
        scale: Largest observed ‖Av‖ for a unit vector, an estimate of ‖A‖.
        rounding: Allowance of each interval for floating-point rounding; rounding is the same in each repetition, so no
            residual shows it; see `rounding_of`.
        noise: Largest observed error of a product: the difference of a new product of a Ritz vector and the combination of
            the earlier products (linearity and repetition), of v_iᵀAv_j and v_jᵀAv_i (symmetry), and the error that the
            operator measures itself, if it does.
        orthogonality: Largest observed |v_iᵀv_j| of basis vectors.
        repeats: Whether a product was repeated and gave the same result.
        precision: ε of the type of the products.
        differs: Whether a product was repeated and gave another result.
    """

    scale: float
    rounding: float
    noise: float
    orthogonality: float
    repeats: bool = False
    precision: float = 0.0
    differs: bool = False

    @property
    def is_random(self) -> bool:
        """Whether products disagree so much that they do not come from one matrix; lack of digits is not the reason."""
        precise = self.differs or not self.is_imprecise
        return self.noise > DETERMINISTIC * self.scale and precise and not self.repeats

    @property
    def is_imprecise(self) -> bool:
        """Whether so few digits of a product are correct that nothing is known about the matrix."""
        return self.rounding > IMPRECISE * self.scale > 0

    @property
    def refusal(self) -> str:
        """The reason why nothing is certified, or "" if there is none."""
        share = f"{100 * max(self.noise, self.rounding) / self.scale:.2g} %" if self.scale else ""
        if self.is_imprecise and not self.is_random:
            return (
                f"products have an error of {share} of the norm, which is {self.scale:.1e}: the loss or the curvature is so "
                "small (or so large) that digits are lost to rounding or underflow"
            )
        if self.is_random:
            return f"products of the same vectors differ by {share} of the norm: the operator is not deterministic"
        if self.noise > DETERMINISTIC * self.scale:
            return (
                f"products are repeatable, but differ from those of a symmetric matrix by {share} of the norm: digits are lost "
                "to rounding, or the matrix is not symmetric"
            )
        if self.orthogonality > ORTHOGONAL:
            return f"the basis has lost its orthogonality ({self.orthogonality:.1e}): eigenvalues may be listed twice"
        return ""

    def require_operator(self) -> None:
        """Refuse products that do not define a symmetric matrix.

        Raises:
            InputError: Products of the same vector differ each time.
            NumericalError: Products repeat, but too few of their digits are correct.
        """
        if self.is_random:
            raise InputError(
                f"Nothing can be certified: {self.refusal}.",
                "Look for dropout or noise that ignores eval mode, or for kernels that are not deterministic.",
            )
        if self.is_imprecise or self.noise > DETERMINISTIC * self.scale:
            message = f"Nothing can be certified: {self.refusal}."
            if self.precision > torch.finfo(torch.float64).eps:
                raise NumericalError(message, "Try float64.", remedy="dtype=float64")
            raise NumericalError(
                message, "The loss may be too close to its minimum for any dtype. Analyse an earlier step of the run."
            )

    def radius(self, residual: float) -> float:
        """Return the largest distance between a Ritz value and the nearest exact eigenvalue.

        For a symmetric A and a unit vector v, some eigenvalue lies within ‖Av - θv‖ of θ (Parlett, The Symmetric
        Eigenvalue Problem, theorem 4.5.1); the products are known only up to noise and rounding.
        """
        return residual + self.noise + self.rounding

    def slack(self, size: int) -> float:
        """Return the bound on the spectral error of a matrix that was measured with a basis of `size` vectors.

        Cauchy's theorem needs orthonormal vectors; the last term bounds the effect of inner products that are not zero.
        """
        return self.noise + self.rounding + math.sqrt(size) * self.orthogonality * self.scale

    def verdict(self, value: float, residual: float, tolerance: float, *, finished: bool) -> Verdict:
        """Return the verdict for one eigenvalue.

        certified: the interval is at most tolerance · |value| to each side, and the search was complete, so no
        eigenvalue above it is known to be missing. noise-limited: the residual has reached the level of noise and
        rounding, and more products do not help. budget-limited: the limit of products or time was reached first; the
        interval still holds an eigenvalue, but perhaps of another index. refused: see `refusal`.
        """
        if self.refusal:
            return "refused"
        certain = self.radius(residual) <= tolerance * abs(value)
        if certain and finished:
            return "certified"
        limited = residual <= self.floor() or (finished and residual <= tolerance * abs(value))
        return "noise-limited" if limited and not certain else "budget-limited"

    def reach(self, value: float, residual: float, tolerance: float) -> float:
        """Return the largest half-width of an interval that is enlarged to hold the eigenvalue of a given index.

        It is the requested tolerance; if the radius of the residual's interval is larger, it is twice this radius.
        """
        radius, asked = self.radius(residual), tolerance * abs(value)
        return asked if radius <= asked else 2 * radius

    def floor(self) -> float:
        """Return the residual below which more products do not help."""
        return 2 * (self.noise + self.rounding)


def rounding_of(dtype: torch.dtype, scale: float, *, size: int = 1, measured: float = 0.0) -> float:
    """Return the allowance for rounding in products of an operator of norm `scale`.

    It is the larger of 10 ε ‖A‖ (1 to 6 ε were observed) and twice the measured error, which can be larger because a
    loss near its minimum has fewer correct digits. It includes the possible underflow in each element of a product.

    Args:
        dtype: Type of the products.
        scale: ‖A‖.
        size: P.
        measured: Error of a product with a unit vector, see `operator.measured_error`.
    """
    kind = torch.finfo(dtype)
    return max(_ROUNDING * kind.eps * scale, _MEASURED * measured) + math.sqrt(size) * kind.tiny * (scale > 0)
