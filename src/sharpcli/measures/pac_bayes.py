"""PAC-Bayes flatness: the largest Gaussian noise in the weights that keeps the mean rise of the loss below a target.

Reference: Neyshabur et al., NeurIPS 2017; Jiang et al., ICLR 2020 (also the version in proportion to |w|), for the search.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from sharpcli import streams
from sharpcli.measures._reading import BATCH_NORM, RELU_PAIRS, Mean, Meter, mean_rise, require_positive
from sharpcli.objective import Objective
from sharpcli.results import Reading
from sharpcli.runtime import gaussian

DEFINITION = "the largest standard deviation σ with E f(θ + σ g) - f(θ) ≤ target; adaptive: g scaled by |θ|"
INVARIANT = {"adaptive=true": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = "Larger is flatter. σ is a standard deviation, not a variance. All σ use the same random directions."
COST = "about 15 × 2 × samples evaluations"
VARIANTS: tuple[dict[str, object], ...] = ({}, {"adaptive": True})
_GROWTH, _MOST, _FIRST, _LEAST = 2.0, 1e6, 1e-3, 1e-9


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    target: float = 0.1,
    samples: int = 8,
    tolerance: float = 0.01,
    adaptive: bool = False,
) -> Reading:
    """Bracket σ by doubling or halving it, then bisect its logarithm; all σ use the same directions.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Seed of the directions.
        target: Rise of the loss, greater than 0.
        samples: Number of directions; both signs of each are used.
        tolerance: Relative width of the bracket at the end.
        adaptive: Whether the noise is proportional to |θ|; σ is then a fraction.

    Returns:
        σ; failed if no σ reaches the target.

    Raises:
        SettingsError: A size is out of range.
    """
    require_positive(target=target, tolerance=tolerance, samples=samples)
    options = {"target": target, "samples": samples, "tolerance": tolerance, "adaptive": adaptive}
    meter = Meter("pac-bayes", objective, theta, options, unit="fraction" if adaptive else "weight")
    working, note = meter, ""
    if not meter.heights.is_clear(target, meter.heights.at_weights):
        working = meter.widened()
        if target <= 2 * working.heights.at_weights.of_search:
            return meter.reading(None, note="The target is not larger than the rounding error of the loss in float64.")
        note = "The target is close to the rounding error in float32: measured in float64."

    def direction(theta: Tensor, sample: int) -> Tensor:
        return (theta.abs() if adaptive else 1.0) * gaussian(theta, seed, streams.POSTERIOR_DIRECTIONS, sample)

    def mean(sigma: float) -> Mean:
        return mean_rise(working, direction, samples, sigma, "pac-bayes")

    def too_far(sigma: float) -> bool:
        return not mean(sigma).value <= target  # A rise that is not finite is also too far.

    bracket = _bracket(too_far, tolerance)
    if bracket is None:
        meter.take(working)
        return meter.reading(None, note=f"No σ between {_LEAST:g} and {_MOST:g} reaches the target.")
    low, high = bracket
    rise = mean(low)
    meter.take(working)
    return meter.reading(low, note=note, upper=high, rise=rise.value, rise_standard_error=rise.standard_error)


def _bracket(too_far: Callable[[float], bool], tolerance: float) -> tuple[float, float] | None:
    """Return two σ, close together, of which only the second is too far; None if there are no such σ."""
    low, high = 0.0, _FIRST
    while not too_far(high):
        low, high = high, high * _GROWTH
        if high > _MOST:
            return None
    if not low:
        low = high / _GROWTH
        while too_far(low):
            low, high = low / _GROWTH, low
            if low < _LEAST:
                return None
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        if not low < middle < high:
            break  # There is no number inside the bracket.
        low, high = (low, middle) if too_far(middle) else (middle, high)
    return low, high
