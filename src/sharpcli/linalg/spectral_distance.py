"""The Jensen-Shannon distance between spectral densities."""

from __future__ import annotations

from dataclasses import replace

import numpy
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm as gaussian

from sharpcli.linalg.spectral_density import Array, SpectralDensity

_FINE = 4  # Points of the grid for each standard deviation of the blur.
_NOTHING = 1e-200  # Half of such a number can be 0, which would make the distance infinite.
_WIDE = 5  # Standard deviations that the grid reaches beyond the nodes.


def bent(density: SpectralDensity, linear: float) -> SpectralDensity:
    """Return a density on the axis asinh(λ / linear), which is linear near zero and logarithmic elsewhere."""
    moved = {name: numpy.arcsinh(getattr(density, name) / linear) for name in ("nodes", "lowest", "highest")}
    return replace(density, **moved)


def distances(densities: list[SpectralDensity], linear: float, width: float) -> tuple[Array, Array]:
    """Return the Jensen-Shannon distances of all pairs, and of two halves of the probes of each.

    The distance is the square root of the divergence with logarithms of base 2: 0 for equal densities, 1 for densities that
    have no eigenvalue in common. All densities are blurred alike, on one axis asinh(λ / linear); the distance of point masses
    without a blur would be 1. The distance of two halves of the probes of one density is what chance alone makes; it is 0 for a
    density that is exact.

    Args:
        densities: B densities.
        linear: Up to this magnitude the axis is linear, in the unit of the eigenvalues.
        width: Standard deviation of the blur on that axis, without a unit.

    Returns:
        Distances (B, B), symmetric, with zeros on the diagonal, and the distances (B,) of the halves.

    References:
        Endres and Schindelin 2003, IEEE Trans. Inf. Theory 49(7), for the metric. Zhang et al. 2024, arXiv 2402.16788, for
        its use for blocks; their axis and blur are their own.
    """
    moved = [bent(density, linear) for density in densities]
    least, most = min(float(one.nodes.min()) for one in moved), max(float(one.nodes.max()) for one in moved)
    grid = numpy.arange(least - _WIDE * width, most + _WIDE * width, width / _FINE)
    curves = [_curve(one, one.weights, grid, width) for one in moved]
    matrix = numpy.zeros((len(moved), len(moved)))
    for row, column in zip(*numpy.tril_indices(len(moved), -1), strict=True):
        matrix[row, column] = matrix[column, row] = _distance(curves[row], curves[column])
    halves = [
        _distance(*(_curve(one, _of_half(one, part), grid, width) for part in (0, 1))) if one.probes else 0.0 for one in moved
    ]
    return matrix, numpy.array(halves)


def _of_half(density: SpectralDensity, part: int) -> Array:
    """Return the weights (Q,) with which every second probe stands for all, beside the known eigenvalues."""
    unknown, kept = density.probe >= 0, (density.probe < 0) | (density.probe % 2 == part)
    weights = numpy.where(kept, density.weights, 0.0)
    weights[unknown] *= density.weights[unknown].sum() / weights[unknown].sum()
    return weights


def _curve(density: SpectralDensity, weights: Array, grid: Array, width: float) -> Array:
    """Return the blurred density on a grid (G,)."""
    curve: Array = gaussian.pdf(grid[:, None], density.nodes, width) @ weights
    return numpy.where(curve < _NOTHING, 0.0, curve)


def _distance(first: Array, second: Array) -> float:
    with numpy.errstate(invalid="ignore"):  # For equal curves, rounding can bring the square of the distance below 0.
        found = float(jensenshannon(first, second, base=2))
    return 0.0 if numpy.isnan(found) else found
