"""What can be said for certain about an approximate eigenvalue, and in which words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Verdict = Literal["certified", "noise-limited", "budget-limited", "refused"]

ORTHOGONAL = 1e-5  # Largest |v_iᵀv_j| of a basis whose Ritz values can be counted; beyond it "ghosts" appear.
DETERMINISTIC = 1e-2  # Largest disagreement of products, in parts of ‖A‖, of something that can be called an operator.
_ROUNDING = 10  # Units of rounding, in parts of ‖A‖, by which a product may be off; 1 to 6 were seen in float32.


@dataclass(frozen=True)
class Trust:
    """What the products of an operator were found to be good for.

    Attributes:
        scale: Largest ‖Av‖ met for a unit vector, an estimate of ‖A‖.
        rounding: What the floating-point type adds to each interval, 10 ε ‖A‖: a product is itself that far from
            exact, alike each time, so that no residual shows it. An allowance, not a proof.
        noise: Largest disagreement met between a product and what earlier ones say it should be: a fresh product of
            a Ritz vector against the sum of the products it is made of (linearity and repetition), and v_iᵀAv_j against
            v_jᵀAv_i (symmetry).
        orthogonality: Largest |v_iᵀv_j| met among basis vectors.
    """

    scale: float
    rounding: float
    noise: float
    orthogonality: float

    @property
    def is_random(self) -> bool:
        """Whether products disagree so much that there is no one matrix behind them."""
        return self.noise > DETERMINISTIC * self.scale

    @property
    def refusal(self) -> str:
        """Why nothing is certified, or "" if there is no reason."""
        if self.is_random:
            share = 100 * self.noise / self.scale
            return f"products of the same vectors disagree by {share:.2g} % of the norm: the operator is not deterministic"
        if self.orthogonality > ORTHOGONAL:
            return f"the basis has lost its orthogonality ({self.orthogonality:.1e}): eigenvalues may be listed twice"
        return ""

    def radius(self, residual: float) -> float:
        """Return how far from a Ritz value its exact eigenvalue may be.

        For a symmetric A and a unit vector v some eigenvalue lies within ‖Av - θv‖ of θ (Parlett, The Symmetric
        Eigenvalue Problem, theorem 4.5.1); the products are only known up to noise and rounding.
        """
        return residual + self.noise + self.rounding

    def verdict(self, value: float, residual: float, tolerance: float, *, finished: bool) -> Verdict:
        """Say how far to trust one eigenvalue.

        certified: the interval is at most tolerance · |value| to each side, and the search was not cut short, so that
        nothing above it was seen to be missing. noise-limited: the residual has come down to what noise and rounding
        leave, and more products would not help. budget-limited: products or minutes ran out first; the interval still
        holds an eigenvalue, if not the one of that index. refused: see `refusal`.
        """
        if self.refusal:
            return "refused"
        if not finished:
            return "budget-limited"
        if self.radius(residual) <= tolerance * abs(value):
            return "certified"
        return "noise-limited" if residual <= max(tolerance * abs(value), self.floor()) else "budget-limited"

    def floor(self) -> float:
        """Return the residual below which there is nothing to gain."""
        return 2 * (self.noise + self.rounding)


def rounding_of(dtype: torch.dtype, scale: float) -> float:
    """Return the allowance for rounding in products of an operator of norm `scale`."""
    return _ROUNDING * torch.finfo(dtype).eps * scale
