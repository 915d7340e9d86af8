"""The spectral density as figures: the density, and the number of eigenvalues above λ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from sharpcli.render.figures.hessian.lines import Line
from sharpcli.render.figures.style import faded, legend_below, mark_decades, mesh, plain_number
from sharpcli.results import Density

_BAND = 0.25  # Strength of the colour of a 95 % band.
_MOST_BANDS = 4  # With more lines the bands would hide each other and are not drawn.
_FLOOR = 0.3  # The axis ends at this fraction of the height of a single eigenvalue.


def draw_density(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw the density on an axis that is linear around zero and logarithmic elsewhere, and eigenvalues as stems."""
    shown = [(line, line.result.density) for line in lines if line.result.density]
    linear = max(density.linear_width for _, density in shown)
    lone = min(_lone(line) for line in lines if line.result.density)
    low, high = min(density.grid[0] for _, density in shown), max(density.grid[-1] for _, density in shown)
    peak = lone
    for line, density in shown:
        scale = [_stretch(value, density.linear_width, linear) for value in density.grid]
        curve, least, most = (
            [value * factor for value, factor in zip(part, scale, strict=True)]
            for part in (density.density, density.density_lower, density.density_upper)
        )
        _band(axes, line, least, most, among=len(shown))
        axes.plot(density.grid, curve, color=line.colour, linestyle=line.style["linestyle"], linewidth=1.3)
        _stems(axes, line, _FLOOR * lone)
        peak = max(peak, *most)
    axes.set_xscale("asinh", linear_width=linear)
    axes.set_yscale("log", nonpositive="clip")
    axes.set(xlim=(low, high), ylim=(_FLOOR * lone, 3 * peak))
    mark_decades(axes.xaxis, low, high, linear)
    mark_decades(axes.yaxis, _FLOOR * lone, 3 * peak, _FLOOR * lone)
    axes.axvspan(-linear, linear, color="0.94", zorder=0, label=f"axis linear, |λ| < {plain_number(_short(linear))}")
    first = shown[0][0]
    if any(line.finite() for line, _ in shown):
        axes.plot([], [], label="listed eigenvalue: height 1 / (P σ √2π)", **_grey(first, filled=True))
    _explain_lines(axes, [line for line, _ in shown])
    axes.set(xlabel="eigenvalue λ", ylabel="share of eigenvalues per unit of ln |λ|")
    axes.set_title(f"Spectral density (smoothing σ = {100 * shown[0][1].width:.0f} %)")
    mesh(axes)
    legend_below(axes)


def has_positive_part(density: Density) -> bool:
    """Return whether a density has eigenvalues to count on a logarithmic axis."""
    return max(density.nodes, default=0.0) > density.linear_width


def draw_count(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw the number of eigenvalues above λ from the density, and the exact number from certified eigenvalues."""
    shown = [(line, line.result.density) for line in lines if line.result.density and has_positive_part(line.result.density)]
    for line, density in shown:
        size = line.result.conditions.num_parameters
        above, most, least = (
            [size * max(1 - share, 0.0) for share in part] for part in (density.cdf, density.cdf_lower, density.cdf_upper)
        )
        _band(axes, line, least, most, among=len(shown))
        axes.plot(density.grid, above, color=line.colour, linestyle=line.style["linestyle"], linewidth=1.3)
        positive = (each for each in line.finite() if each.index > 0 and each.value > 0)
        ranked = sorted(positive, key=lambda eigenvalue: -eigenvalue.value)
        exact = [(eigenvalue.value, rank) for rank, eigenvalue in enumerate(ranked, 1) if eigenvalue.verdict == "certified"]
        axes.plot([value for value, _ in exact], [rank for _, rank in exact], **line.markers(filled=True, size=4))
        for threshold, count in ((entry.threshold, entry.count) for entry in density.counts if entry.threshold > 0):
            error = [[max(count.value - count.lower, 0)], [max(count.upper - count.value, 0)]]
            axes.errorbar(threshold, count.value, yerr=error, color=line.colour, marker="x", markersize=7, capsize=3)
    axes.set(xscale="log", yscale="log")
    low, high = min(density.linear_width for _, density in shown), 1.6 * max(max(density.nodes) for _, density in shown)
    most_of_all = max(line.result.conditions.num_parameters for line, _ in shown)
    axes.set(xlim=(low, high), ylim=(0.6, 1.6 * most_of_all))
    mark_decades(axes.xaxis, low, high, low)
    mark_decades(axes.yaxis, 0.6, 1.6 * most_of_all, 0.6)
    first = shown[0][0]
    everything = [eigenvalue for line, _ in shown for eigenvalue in line.finite()]
    if any(each.verdict == "certified" and each.index > 0 and each.value > 0 for each in everything):
        axes.plot([], [], label="certified: exact count", **_grey(first, filled=True))
    _explain_lines(axes, [line for line, _ in shown])
    if any(density.counts for _, density in shown):
        axes.plot([], [], color="0.4", marker="x", linestyle="none", label="--above, 95 % interval")
    axes.set(xlabel="λ", ylabel="number of eigenvalues above λ")
    axes.set_title(f"Count above λ, of P = {most_of_all}")
    mesh(axes)
    legend_below(axes)


def _band(axes: Axes, line: Line, least: Sequence[float], most: Sequence[float], *, among: int) -> None:
    """Draw a 95 % band, unless there are so many lines that bands would hide them."""
    if line.result.density and among <= _MOST_BANDS:
        colour = faded(line.style["color"], _BAND * line.strength)
        axes.fill_between(line.result.density.grid, least, most, color=colour, linewidth=0)


def _explain_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """Explain the bands and the steps of a run in the legend."""
    if len(lines) <= _MOST_BANDS and any(line.result.density and line.result.density.probes for line in lines):
        axes.fill_between([], [], color="0.8", label="95 % band over the probes")
    if any(line.strength < 1 for line in lines):
        for line in lines:
            style = {"color": line.colour, "linestyle": line.style["linestyle"], "linewidth": 1.3}
            axes.plot([], [], label=f"step {line.result.checkpoint.step}", **style)


def _stems(axes: Axes, line: Line, floor: float) -> None:
    """Draw each listed eigenvalue as a stem with the height of a single smoothed eigenvalue."""
    for filled in (True, False):
        values = [each.value for each in line.finite() if (each.verdict == "certified") is filled]
        if values:
            top = _lone(line)
            axes.vlines(values, floor, top, color=line.colour, linewidth=0.7, alpha=0.7)
            axes.plot(values, [top] * len(values), **line.markers(filled=filled, size=4))


def _lone(line: Line) -> float:
    """Return the height of the density at a single eigenvalue far from the others."""
    density = line.result.density
    width = density.width if density else math.inf
    return 1 / (line.result.conditions.num_parameters * width * math.sqrt(2 * math.pi))


def _stretch(value: float, own: float, common: float) -> float:
    """Return d asinh(λ/own) / d asinh(λ/common): densities on the two scales differ by this factor, at equal area."""
    return math.hypot(value, common) / math.hypot(value, own)


def _grey(line: Line, *, filled: bool) -> dict[str, Any]:
    return {**Line(line.result, "", "", {**line.style, "color": "#666666"}).markers(filled=filled, size=4)}


def _short(value: float) -> float:
    return float(f"{value:.1g}")
