"""Local volume: minus the log of the share of Gaussian weight noise in the quadratic basin, in nats (Occam factor).

Reference: MacKay, Bayesian Interpolation, 1992 (Occam factor); Chaudhari et al., ICLR 2017, for local entropy.
"""

from __future__ import annotations

import math

import numpy
from torch import Tensor

from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.slq import spectral_density
from sharpcli.linalg.wanted import Wanted
from sharpcli.measures._reading import Meter, require_at_least
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "-log E exp(-n ½ δᵀH₊δ) over δ ~ N(0, σ² I) = ½ Σ log(1 + n σ² max(λ, 0)), n the number of loss terms"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = "Only the quadratic part: negative curvature counts as flat. σ and the scale of the weights decide which λ count."
COST = "about (probes × steps + 40) Hessian products, each 2 to 3 gradients"
VARIANTS: tuple[dict[str, object], ...] = ({},)
_OUTLIERS = 10  # Eigenvalues that are computed exactly, since the probes estimate each of them badly.


def read(
    objective: Objective, theta: Tensor, *, seed: int = 0, sigma: float = 0.01, probes: int = 6, steps: int = 30
) -> Reading:
    """Return the volume in nats: outliers exactly, the bulk by stochastic Lanczos quadrature with its standard error.

    Args:
        objective: f, the mean loss over n terms.
        theta: Shape (P,).
        seed: Seed of the probes.
        sigma: Standard deviation σ ≥ 0 of the noise.
        probes: Number of random vectors for the bulk.
        steps: Lanczos steps of each probe.

    Raises:
        SettingsError: A size is out of range.
    """
    require_at_least(0, sigma=sigma)
    options = {"sigma": sigma, "probes": probes, "steps": steps}
    meter = Meter("local-volume", objective, theta, options, unit="nats")
    if sigma == 0:
        return meter.reading(0.0)
    operator = operator_of("hessian", objective, theta)
    pairs = eigenpairs(operator, Wanted(min(_OUTLIERS, len(theta))), seed=seed)
    known = [place for place, good in enumerate(pairs.converged) if good]
    scale = objective.num_terms * sigma**2
    integral = spectral_density(
        operator,
        probes=probes,
        steps=steps,
        values=pairs.values[known].numpy(),
        vectors=pairs.vectors[known],
        seed=seed,
    ).mean_of(lambda nodes: 0.5 * numpy.log1p(scale * numpy.maximum(nodes, 0)))
    meter.passes = 2 * operator.products
    outliers = sum(0.5 * math.log1p(scale * max(float(value), 0.0)) for value in pairs.values[known])
    size = len(theta)
    return meter.reading(size * integral.value, standard_error=size * integral.standard_error, outlier_part=outliers)
