"""What can be said for certain about an approximate eigenvalue, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from sharpcli.errors import InputError, NumericalError

Verdict = Literal["certified", "noise-limited", "budget-limited", "refused"]

ORTHOGONAL = 1e-5  # Largest |v_iᵀv_j| of a basis whose Ritz values can be counted; beyond it "ghosts" appear.
DETERMINISTIC = 1e-2  # Largest disagreement of products, in parts of ‖A‖, of something that can be called an operator.
SUSPICIOUS = 1e-4  # Asymmetry in parts of ‖A‖ that no rounding explains: there the last product is repeated.
IMPRECISE = 0.1  # Error of products, in parts of ‖A‖, that leaves no digit to speak of.
_ROUNDING = 10  # Units of rounding, in parts of ‖A‖, by which a product may be off; 1 to 6 were seen in float32.
_MEASURED = 2  # Times the error that was measured along a few vectors: other vectors have others.


@dataclass(frozen=True)
class Trust:
    """What the products of an operator were found to be good for.

    Attributes:
        scale: Largest ‖Av‖ met for a unit vector, an estimate of ‖A‖.
        rounding: What the floating-point type adds to each interval, alike each time, so that no residual shows it; see
            `rounding_of`.
        noise: Largest disagreement met between a product and what it should be: a fresh product of a Ritz vector against
            the sum of the products it is made of (linearity and repetition), v_iᵀAv_j against v_jᵀAv_i (symmetry), and
            what the operator itself has measured to be off, if it does.
        orthogonality: Largest |v_iᵀv_j| met among basis vectors.
        repeats: Whether the same product was found to come out alike when it was made again.
        precision: ε of the type of the products.
        differs: Whether the same product was found to come out otherwise when it was made again.
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
        """Whether products disagree so much, and not for want of digits, that there is no one matrix behind them."""
        precise = self.differs or not self.is_imprecise
        return self.noise > DETERMINISTIC * self.scale and precise and not self.repeats

    @property
    def is_imprecise(self) -> bool:
        """Whether so few digits of a product are right that nothing can be said of its matrix."""
        return self.rounding > IMPRECISE * self.scale > 0

    @property
    def refusal(self) -> str:
        """Why nothing is certified, or "" if there is no reason."""
        share = f"{100 * max(self.noise, self.rounding) / self.scale:.2g} %" if self.scale else ""
        if self.is_imprecise and not self.is_random:
            return (
                f"products are off by {share} of the norm, which is {self.scale:.1e}: loss or curvature are so small (or so "
                "large) that their digits are lost to rounding or underflow"
            )
        if self.is_random:
            return f"products of the same vectors disagree by {share} of the norm: the operator is not deterministic"
        if self.noise > DETERMINISTIC * self.scale:
            return (
                f"products repeat, but are off those of a symmetric matrix by {share} of the norm: their digits are lost to "
                "rounding, or the matrix is not symmetric"
            )
        if self.orthogonality > ORTHOGONAL:
            return f"the basis has lost its orthogonality ({self.orthogonality:.1e}): eigenvalues may be listed twice"
        return ""

    def require_operator(self) -> None:
        """Refuse what cannot be called an operator.

        Raises:
            InputError: Products of the same vector come out otherwise each time.
            NumericalError: They repeat, but too few of their digits are right.
        """
        if self.is_random:
            raise InputError(
                f"There is nothing to certify: {self.refusal}.",
                "Look for dropout or noise that ignores eval mode, or for kernels that are not deterministic.",
            )
        if self.is_imprecise or self.noise > DETERMINISTIC * self.scale:
            message = f"There is nothing to certify: {self.refusal}."
            if self.precision > torch.finfo(torch.float64).eps:
                raise NumericalError(message, "Try float64.", remedy="dtype=float64")
            raise NumericalError(
                message, "The loss may be too close to its least value for any type: analyse an earlier step of the run."
            )

    def radius(self, residual: float) -> float:
        """Return how far from a Ritz value its exact eigenvalue may be.

        For a symmetric A and a unit vector v some eigenvalue lies within ‖Av - θv‖ of θ (Parlett, The Symmetric
        Eigenvalue Problem, theorem 4.5.1); the products are only known up to noise and rounding.
        """
        return residual + self.noise + self.rounding

    def slack(self, size: int) -> float:
        """Return by how much the spectrum of what a basis of so many vectors has measured may be off that of the matrix.

        Cauchy's theorem is about orthonormal vectors; those whose products are small are that far from it.
        """
        return self.noise + self.rounding + math.sqrt(size) * self.orthogonality * self.scale

    def verdict(self, value: float, residual: float, tolerance: float, *, finished: bool) -> Verdict:
        """Say how far to trust one eigenvalue.

        certified: the interval is at most tolerance · |value| to each side, and the search was not cut short, so that
        nothing above it was seen to be missing. noise-limited: the residual has come down to what noise and rounding
        leave, and more products would not help. budget-limited: products or minutes ran out first; the interval still
        holds an eigenvalue, if not the one of that index. refused: see `refusal`.
        """
        if self.refusal:
            return "refused"
        certain = self.radius(residual) <= tolerance * abs(value)
        if certain and finished:
            return "certified"
        limited = residual <= self.floor() or (finished and residual <= tolerance * abs(value))
        return "noise-limited" if limited and not certain else "budget-limited"

    def reach(self, value: float, residual: float, tolerance: float) -> float:
        """Return how far an interval may reach so that it may hold the eigenvalue of an index in place of any.

        As far as is asked for; where the residual does not allow for that, twice as far as that reaches.
        """
        radius, asked = self.radius(residual), tolerance * abs(value)
        return asked if radius <= asked else 2 * radius

    def floor(self) -> float:
        """Return the residual below which there is nothing to gain."""
        return 2 * (self.noise + self.rounding)


def rounding_of(dtype: torch.dtype, scale: float, *, size: int = 1, measured: float = 0.0) -> float:
    """Return the allowance for rounding in products of an operator of norm `scale`.

    10 ε ‖A‖, where nothing was measured: 1 to 6 ε were seen. Twice what was measured where that is more: losses near
    their least value cost digits. And what underflow may take from each of the numbers of a product.

    Args:
        dtype: Of the products.
        scale: ‖A‖.
        size: P.
        measured: Error of a product with a unit vector, see `operator.measured_error`.
    """
    kind = torch.finfo(dtype)
    return max(_ROUNDING * kind.eps * scale, _MEASURED * measured) + math.sqrt(size) * kind.tiny * (scale > 0)
