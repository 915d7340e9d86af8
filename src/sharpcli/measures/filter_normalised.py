"""Filter-normalised rise: the mean rise of the loss along random directions with the filter norms of the weights.

Reference: Li et al., NeurIPS 2018, section 4 (the directions; the mean rise at one radius stands for their pictures).
"""

from __future__ import annotations

from torch import Tensor

from sharpcli import streams
from sharpcli.measures._reading import (
    BATCH_NORM,
    RELU_PAIRS,
    Meter,
    require_at_least,
    require_positive,
    settled_mean_rise,
)
from sharpcli.objective import Objective
from sharpcli.parameters import filter_normalised
from sharpcli.results import Reading
from sharpcli.runtime import gaussian

DEFINITION = "E f(θ + r d) - f(θ), each filter of d scaled to ‖filter of θ‖; biases and norm layers do not move"
INVARIANT = {"": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = "A few random directions in a space of millions of dimensions: it measures the trace, not the largest eigenvalues."
COST = "2 × samples evaluations"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0, radius: float = 0.1, samples: int = 20) -> Reading:
    """Return the mean rise over seeded directions, both signs of each, with its standard error.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Seed of the directions.
        radius: r ≥ 0, a fraction of every filter's norm.
        samples: Number of directions.

    Raises:
        SettingsError: A size is out of range.
    """
    require_at_least(0, radius=radius)
    require_positive(samples=samples)
    meter = Meter("filter-normalised", objective, theta, {"radius": radius, "samples": samples})

    def direction(theta: Tensor, sample: int) -> Tensor:
        return filter_normalised(gaussian(theta, seed, streams.FILTER_DIRECTIONS, sample), theta, objective.space)

    rise = settled_mean_rise(meter, direction, samples, radius, "filter-normalised")
    return meter.reading(rise.value, standard_error=rise.standard_error, note=rise.note)
