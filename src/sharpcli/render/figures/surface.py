"""A loss surface as contours and as a relief."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import LinearTriInterpolator, Triangulation
from numpy.typing import NDArray

from sharpcli.render.figures.style import plain_number
from sharpcli.render.labels import loss_label, plane
from sharpcli.results import Mark, SurfaceResult

_LEVELS = 16
_LOG_RATIO = 30.0  # A loss that varies by more than this factor is coloured by its logarithm.
_FLATTEST = 4.0  # Axes of equal length are drawn to one scale, unless one range is this many times the other.
_ALL_NAMED = 4  # Up to this number of marks, each has its name; else the first and the last.
_SAME = 1e-3  # Relative difference of two lengths that count as equal.
_SIDE = 4.2  # Width of the contours in inches.
_LETTERS = 11  # Of a label, on one inch.
_MARKER: dict[str, Any] = {"color": "red", "marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.6}
_PAPER = {"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.6}
_OUTLINE = {"facecolor": "black", "alpha": 0.45, "edgecolor": "none", "pad": 1.2}


def draw_surface(results: Sequence[SurfaceResult]) -> Figure:
    """Draw contours, with the marked points, next to a relief; points with a loss that is not finite are white.

    Axes of equal length are drawn to one scale; if one range is much longer than the other, the title says how much the
    shorter one is stretched.
    """
    result = results[0]
    losses = numpy.array([[math.nan if value is None else value for value in row] for row in result.loss], dtype=float)
    finite = losses[numpy.isfinite(losses)]
    logarithmic = bool(finite.min() > 0 and finite.max() > _LOG_RATIO * finite.min())
    shown = numpy.ma.masked_invalid(numpy.log10(losses) if logarithmic else losses)
    unit = loss_label(result.conditions.loss_unit)
    name = f"log₁₀ of {unit}" if logarithmic else unit
    shape, stretched = _shape(result)
    figure = Figure(figsize=(2 * _SIDE + 3.1, max(3.4, _SIDE * shape + 1.1)), layout="constrained")
    places = figure.add_gridspec(1, 2, width_ratios=(1.1, 1))
    _contours(figure.add_subplot(places[0]), result, shown, name, shape)
    _relief(figure.add_subplot(places[1], projection="3d"), result, shown, name, shape)
    title = f"{result.conditions.split} loss {plane(result, result.checkpoint.label)}"
    figure.suptitle(title + (f"\n{stretched}" if stretched else ""))
    return figure


def _shape(result: SurfaceResult) -> tuple[float, str]:
    """Return height / width of the contours, and what the title says about their scale."""
    width, height = result.alphas[-1] - result.alphas[0], result.betas[-1] - result.betas[0]
    if len(result.lengths) != 2 or not math.isclose(*result.lengths, rel_tol=_SAME):
        return 1.0, ""
    ratio = height / width
    bounded = min(max(ratio, 1 / _FLATTEST), _FLATTEST)
    if bounded == ratio:
        return ratio, ""
    axis, factor = ("β", bounded / ratio) if ratio < 1 else ("α", ratio / bounded)
    return bounded, f"{axis} is stretched {plain_number(float(f'{factor:.2g}'))} times"


def _contours(axes: Axes, result: SurfaceResult, shown: Any, name: str, shape: float) -> None:
    filled = axes.contourf(result.alphas, result.betas, shown, levels=_LEVELS, cmap="viridis")
    axes.contour(
        result.alphas, result.betas, shown, levels=_LEVELS, colors="white", linewidths=0.4, linestyles="solid", alpha=0.6
    )
    axes.set_box_aspect(shape)
    bar = axes.inset_axes((1.03, 0, 0.045, 1))
    axes.figure.colorbar(filled, cax=bar, label=name)
    places = _places(result)
    line = "-" if result.explained else "none"  # Only the steps of a run are joined.
    axes.plot(*zip(*places, strict=True), markersize=4.5, linewidth=0.9, linestyle=line, **_MARKER)
    axes.plot(0, 0, marker="+", color="white", markersize=11, markeredgewidth=2, linestyle="none")
    middle = (result.alphas[0] + result.alphas[-1]) / 2
    for mark in _named(result):
        side, away = ("right", -6) if mark.alpha > middle else ("left", 6)
        axes.annotate(
            mark.name, (mark.alpha, mark.beta), textcoords="offset points", xytext=(away, 6), ha=side, fontsize="small",
            color="white", bbox=_OUTLINE,
        )  # fmt: skip
    axes.locator_params(nbins=6)
    wide, high = (_LETTERS * side for side in (_SIDE, _SIDE * shape))
    axes.set(xlabel=textwrap.fill(result.axes[0], round(wide)), ylabel=textwrap.fill(result.axes[1], max(round(high), 16)))


def _relief(axes: Any, result: SurfaceResult, shown: Any, name: str, shape: float) -> None:
    """Draw the surface from above, with the marks on it."""
    grid = numpy.meshgrid(result.alphas, result.betas)
    axes.computed_zorder = False  # So that no mark is behind the surface.
    axes.plot_surface(*grid, shown.filled(math.nan), cmap="viridis", linewidth=0, antialiased=True, zorder=1)
    places = _places(result)
    heights = _heights(grid, shown, places)
    line = "-" if result.explained else "none"
    axes.plot(*zip(*places, strict=True), heights, markersize=4.5, linewidth=0.9, linestyle=line, zorder=3, **_MARKER)
    for mark in _named(result):
        (height,) = _heights(grid, shown, [(mark.alpha, mark.beta)])
        if math.isfinite(height):
            place = (mark.alpha, mark.beta, height)
            axes.text(*place, f"  {mark.name}", fontsize="small", zorder=4, bbox=_PAPER, va="bottom")
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize="small", pad=0)
    axes.set(xlabel="α", ylabel="β")
    axes.set_zlabel(name, rotation=90)
    axes.zaxis.set_rotate_label(False)
    wide, deep = (1.0, shape) if shape <= 1 else (1 / shape, 1.0)
    axes.set_box_aspect((max(wide, 0.5), max(deep, 0.5), 0.7), zoom=0.86)  # So that the label of the height is inside.
    axes.view_init(elev=35, azim=-60)


def _places(result: SurfaceResult) -> list[tuple[float, float]]:
    """Return the marked points; the centre if there are none."""
    return [(mark.alpha, mark.beta) for mark in result.marks] or [(0.0, 0.0)]


def _named(result: SurfaceResult) -> Sequence[Mark]:
    return result.marks if len(result.marks) <= _ALL_NAMED else (result.marks[0], result.marks[-1])


def _heights(grid: Sequence[NDArray[Any]], shown: Any, places: Sequence[tuple[float, float]]) -> list[float]:
    """Return the heights of the surface at these places, between the points of the grid."""
    triangles = Triangulation(grid[0].ravel(), grid[1].ravel())
    between = LinearTriInterpolator(triangles, shown.filled(math.nan).ravel())
    return [float(between(alpha, beta).filled(math.nan)) for alpha, beta in places]
