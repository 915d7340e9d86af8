"""The critical step along a direction: the size from which on a step no longer lowers the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

_USELESS = 0.5  # Relative error of η_c from rounding above which nothing is known.
_MOST = 60  # Doublings or halvings: a factor of 1e18.


class CriticalStep(NamedTuple):
    """The two ends of the search: a step that lowers the loss and a larger one that does not.

    Attributes:
        lower: A step η with a loss below that at 0; 0 if there is none.
        upper: A step with a loss that is not below; infinite if there is none.
        evaluations: Number of losses that were computed.
    """

    lower: float
    upper: float
    evaluations: int

    @property
    def is_found(self) -> bool:
        """Whether both ends are known."""
        return self.lower > 0 and math.isfinite(self.upper)

    @property
    def middle(self) -> float:
        """η_c, the mean of both ends."""
        return (self.lower + self.upper) / 2

    @property
    def sharpness(self) -> float:
        """λ_c = 2/η_c."""
        return 2 / self.middle

    def shift(self, slope: float, error: float) -> float:
        """Return the relative error of η_c from rounding: at the crossing of a parabola the loss rises with the slope gᵀu.

        Args:
            slope: gᵀu, by how much the loss falls per unit of step at first.
            error: The possible rounding error of a loss.
        """
        return 2 * error / (self.middle * slope)

    def interval(self, slope: float, error: float) -> tuple[float, float] | None:
        """Return the interval of λ_c from the ends of the search and rounding; None if rounding leaves nothing known."""
        shift = self.shift(slope, error)
        return None if shift > _USELESS else (2 / self.upper * (1 - shift), 2 / self.lower * (1 + shift))


def critical_step(loss: Callable[[float], float], base: float, start: float, tolerance: float) -> CriticalStep:
    """Search for the critical step: exponential search from `start`, then bisection.

    On the quadratic f(θ - η u) = f(θ) - η gᵀu + ½ η² uᵀHu it is 2 gᵀu / uᵀHu, so that 2/η_c is uᵀHu / gᵀu. A loss that falls
    again behind a rise has several such steps; one of them is found, which need not be the smallest.

    Args:
        loss: Function from η to f(θ - η u); a value that is not finite counts as not below.
        base: f(θ).
        start: The first step, above 0.
        tolerance: The search ends when upper/lower - 1 is at most this.

    References:
        Kalra et al. 2026, A Scalable Measure of Loss Landscape Curvature, arXiv 2601.16979.
    """
    evaluations = 0

    def lowers(step: float) -> bool:
        nonlocal evaluations
        evaluations += 1
        return loss(step) < base  # False for NaN.

    lower, upper = 0.0, math.inf
    step = start
    if lowers(step):
        lower = step
        while math.isinf(upper) and evaluations <= _MOST:
            step = 2 * lower
            lower, upper = (step, upper) if lowers(step) else (lower, step)
    else:
        upper = step
        while not lower and evaluations <= _MOST:
            step = upper / 2
            lower, upper = (step, upper) if lowers(step) else (lower, step)
    while lower and math.isfinite(upper) and upper > (1 + tolerance) * lower:
        step = (lower + upper) / 2
        lower, upper = (step, upper) if lowers(step) else (lower, step)
    return CriticalStep(lower, upper, evaluations)
