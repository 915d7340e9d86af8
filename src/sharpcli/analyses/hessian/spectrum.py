"""Further quantities of a spectrum: trace, Frobenius norm, density, counts, Gauss-Newton part of the first eigenvalue."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict

import numpy

from sharpcli.curvature.ggn import GGNOperator
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.reductions import dot, project
from sharpcli.linalg.slq import spectral_density
from sharpcli.linalg.spectral_density import SpectralDensity
from sharpcli.linalg.spectral_distance import bent
from sharpcli.linalg.trace import deflated_moments
from sharpcli.linalg.xtrace import xtrace
from sharpcli.objective import Objective
from sharpcli.results import Count, Density, Estimate, Moments, Parts
from sharpcli.settings import HessianSettings

_ENOUGH = 12  # Minimum number of basis vectors of a Krylov space that contains the outliers; with fewer, XTrace is used.
_GRID = 400
_ANOTHER = 0.5  # Overlap of two unit eigenvectors below which they are different.
_LINEAR = 1e-4  # Fraction of the largest magnitude below which the axis of the density is linear.
BLUR = 0.12  # Width of the blur on that axis, in units of asinh; this is about 12 % of an eigenvalue.


def moments(operator: CurvatureOperator, pairs: Eigenpairs | None, settings: HessianSettings) -> Moments:
    """Return trace, Frobenius norm and ranks, with the Krylov space of the search if it is large enough."""
    if pairs is not None and pairs.krylov.size >= _ENOUGH:
        frame = pairs.krylov.frame
        moments = deflated_moments(
            operator,
            basis=pairs.krylov.space.whole(pairs.krylov.basis),
            trace_inside=float(numpy.trace(frame.measured)),
            frobenius_squared_inside=float((frame.measured**2).sum() + (frame.coupling**2).sum()),
            half_width=settings.trace_tol,
            seed=settings.seed,
            error=pairs.trust.noise + pairs.trust.rounding,
        )
    else:
        moments = xtrace(operator, half_width=settings.trace_tol, seed=settings.seed)
    square = moments.frobenius_squared
    top = 0.0 if pairs is None else float(pairs.values.abs().max())
    return Moments(
        trace=moments.trace,
        frobenius_norm=_root(square),
        effective_rank=moments.trace.value**2 / square.value if square.value > 0 else math.nan,
        stable_rank=square.value / top**2 if top else None,
        method=moments.method,
        products=moments.products,
    )


def density(operator: CurvatureOperator, pairs: Eigenpairs | None, settings: HessianSettings) -> Density:
    """Return the spectral density; certified eigenvalues are deflated and counted exactly."""
    known = [] if pairs is None else _distinct(pairs)
    spectrum = spectral_density(
        operator,
        probes=settings.probes,
        steps=settings.density_steps,
        values=pairs.values[known].numpy() if pairs is not None and known else None,
        vectors=pairs.vectors[known] if pairs is not None and known else None,
        seed=settings.seed,
        error=0.0 if pairs is None else pairs.trust.noise + pairs.trust.rounding,
    )
    return drawn(spectrum, settings, linear_width([spectrum]))


def _distinct(pairs: Eigenpairs) -> list[int]:
    """Return the positions of certified eigenpairs, each pair once: for few parameters, both ends can contain the same pair."""
    kept: list[int] = []
    for place in (place for place, good in enumerate(pairs.converged) if good):
        if not kept or float(project(pairs.vectors[kept], pairs.vectors[place]).abs().max()) < _ANOTHER:
            kept.append(place)
    return kept


def parts(objective: Objective, pairs: Eigenpairs) -> Parts:
    """Return vᵀHv at the first eigenvector, split into its Gauss-Newton part and the remainder."""
    vector, whole = pairs.vectors[0], float(pairs.values[0])
    ggn = dot(vector, GGNOperator(objective, objective.parameters(), memory=0) @ vector)
    return Parts(hessian=whole, ggn=ggn, rest=whole - ggn)


def linear_width(spectra: Iterable[SpectralDensity]) -> float:
    """Return up to which magnitude the common axis of some densities is linear."""
    return _LINEAR * (max((float(numpy.abs(one.nodes).max()) for one in spectra), default=0.0) or 1.0)


def drawn(spectrum: SpectralDensity, settings: HessianSettings, linear: float) -> Density:
    """Return a density as numbers to plot, on a scale that is linear up to the magnitude `linear` and logarithmic elsewhere."""
    on_axis = bent(spectrum, linear)
    grid = numpy.linspace(on_axis.nodes.min() - 5 * BLUR, on_axis.nodes.max() + 5 * BLUR, _GRID)
    smooth, below, above = on_axis.smoothed(grid, BLUR)
    share, least, most = on_axis.cdf(grid)
    return Density(
        nodes=_plain(spectrum.nodes),
        weights=_plain(spectrum.weights),
        probes=spectrum.probes,
        steps=settings.density_steps,
        products=spectrum.products,
        linear_width=linear,
        width=BLUR,
        grid=_plain(linear * numpy.sinh(grid)),
        cdf=_plain(share),
        cdf_lower=_plain(least),
        cdf_upper=_plain(most),
        density=_plain(smooth),
        density_lower=_plain(below),
        density_upper=_plain(above),
        counts=tuple(Count(threshold=limit, count=spectrum.count_above(limit)) for limit in settings.above),
    )


def _root(square: Estimate) -> Estimate:
    """Return the square root of an estimate, with the standard error to first order."""
    value = math.sqrt(max(square.value, 0))
    error = square.standard_error / (2 * value) if value else 0.0
    lower, upper = (math.sqrt(max(end, 0)) for end in (square.lower, square.upper))
    return Estimate(**{**asdict(square), "value": value, "standard_error": error, "lower": lower, "upper": upper})


def _plain(values: numpy.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())
