"""A loss surface as contours and as a relief."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
from matplotlib.figure import Figure

from sharpcli.render.labels import loss_label, plane
from sharpcli.results import SurfaceResult

_LEVELS = 16
_LOG_RATIO = 30.0  # A loss that varies by more than this factor is coloured by its logarithm.


def draw_surface(results: Sequence[SurfaceResult]) -> Figure:
    """Draw contours, with the marked points, next to a relief; points with a loss that is not finite are white."""
    result = results[0]
    losses = numpy.array([[math.nan if value is None else value for value in row] for row in result.loss], dtype=float)
    finite = losses[numpy.isfinite(losses)]
    logarithmic = finite.min() > 0 and finite.max() > _LOG_RATIO * finite.min()
    shown = numpy.ma.masked_invalid(numpy.log10(losses) if logarithmic else losses)
    unit = loss_label(result.conditions.loss_function)
    name = f"log₁₀ of {unit}" if logarithmic else unit
    figure = Figure(figsize=(11.5, 4.9), layout="constrained")
    axes = figure.add_subplot(1, 2, 1)
    filled = axes.contourf(result.alphas, result.betas, shown, levels=_LEVELS, cmap="viridis")
    axes.contour(
        result.alphas, result.betas, shown, levels=_LEVELS, colors="white", linewidths=0.4, linestyles="solid", alpha=0.6
    )
    figure.colorbar(filled, ax=axes, label=name)
    axes.plot(0, 0, marker="+", color="red", markersize=11, markeredgewidth=2, linestyle="none")
    if result.marks:
        places = [(mark.alpha, mark.beta) for mark in result.marks]
        line = "-" if result.explained else "none"  # Only the steps of a run are joined.
        axes.plot(*zip(*places, strict=True), color="red", marker="o", markersize=3.5, linewidth=0.9, linestyle=line)
        for mark in result.marks if len(result.marks) <= 4 else (result.marks[0], result.marks[-1]):
            axes.annotate(
                mark.name, (mark.alpha, mark.beta), textcoords="offset points", xytext=(6, 5), fontsize=8, color="white"
            )
    axes.set(
        xlabel=result.axes[0],
        ylabel=result.axes[1],
        title=f"{result.conditions.split} loss {plane(result, result.checkpoint.label)}",
    )
    relief = figure.add_subplot(1, 2, 2, projection="3d")
    grid = numpy.meshgrid(result.alphas, result.betas)
    relief.plot_surface(*grid, shown.filled(math.nan), cmap="viridis", linewidth=0, antialiased=True)
    relief.set(xlabel="α", ylabel="β", zlabel=name)
    relief.locator_params(nbins=4)
    relief.set_box_aspect(None, zoom=0.85)  # So that the label of the height is inside of the figure.
    return figure
