"""Average-case sharpness: the mean rise of the loss under Gaussian noise in the weights.

Reference: Neyshabur et al., NeurIPS 2017; Andriushchenko et al., ICML 2023 (also the adaptive version).
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
from sharpcli.results import Reading
from sharpcli.runtime import gaussian

DEFINITION = "E f(θ + σ g) - f(θ), g ~ N(0, I); adaptive: g scaled by |θ|, entry by entry"
INVARIANT = {"adaptive=true": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = (
    "To second order ½ σ² tr H: it grows with the number of parameters and, unless adaptive, with the scale of the weights."
)
COST = "2 × samples evaluations"
VARIANTS: tuple[dict[str, object], ...] = ({}, {"adaptive": True, "sigma": 0.1})


def read(
    objective: Objective, theta: Tensor, *, seed: int = 0, sigma: float = 0.01, samples: int = 20, adaptive: bool = False
) -> Reading:
    """Return the mean rise over seeded directions, both signs of each, with its standard error.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Seed of the noise.
        sigma: Standard deviation σ ≥ 0 of the noise; a fraction of each weight if adaptive.
        samples: Number of directions.
        adaptive: Whether the noise is proportional to |θ|.

    Raises:
        SettingsError: A size is out of range.
    """
    require_at_least(0, sigma=sigma)
    require_positive(samples=samples)
    meter = Meter("average-case", objective, theta, {"sigma": sigma, "samples": samples, "adaptive": adaptive})

    def direction(theta: Tensor, sample: int) -> Tensor:
        return (theta.abs() if adaptive else 1.0) * gaussian(theta, seed, streams.NOISE_DIRECTIONS, sample)

    rise = settled_mean_rise(meter, direction, samples, sigma, "average case")
    return meter.reading(rise.value, standard_error=rise.standard_error, note=rise.note)
