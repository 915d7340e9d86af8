"""Figure of the distance from initialization along runs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sharpcli.errors import SettingsError
from sharpcli.render.figures.style import finish, mark_decades, mesh, styles
from sharpcli.render.labels import distinct
from sharpcli.results import DistanceResult


def draw_distances(results: Sequence[DistanceResult]) -> Figure:
    """Draw distance from initialization against the update, with both fits, and below the residuals of the fits."""
    if not any(result.steps or result.growth for result in results):
        raise SettingsError(
            "There are no distances along a run to draw.",
            "Give a run folder with saved steps or distances.jsonl, or leave --plot out.",
        )
    fitted = any(result.growth for result in results)
    figure = Figure(figsize=(6.4, 6.4 if fitted else 4.4), layout="constrained")
    grid = figure.subplots(1 + fitted, 1, sharex=True, squeeze=False, height_ratios=(2, 1)[: 1 + fitted])[:, 0]
    axes = grid[0]
    names = distinct([result.checkpoint for result in results])
    for name, result, style in zip(names, results, styles(), strict=False):
        points = {**style, "linestyle": "none"}
        if result.growth is None:
            axes.plot([step.step or 0 for step in result.steps], [step.distance for step in result.steps], label=name, **style)
            continue
        growth = result.growth
        axes.plot(growth.steps, growth.distances, label=name, **points)
        for fit, dash in zip(growth.fits, ("-", ":"), strict=True):
            values = [distance - left for distance, left in zip(growth.distances, fit.residuals, strict=True)]
            shown = "log t" if fit.form == "log" else f"t^{fit.parameters['p']:.2f}"
            label = f"{name}: {shown}, R² {fit.r_squared:.3f}"
            axes.plot(growth.steps, values, color=style["color"], linestyle=dash, label=label)
            grid[1].plot(
                growth.steps, fit.residuals, color=style["color"], linestyle=dash, marker=".", label=f"{name}: {shown}"
            )
    axes.set_xscale("log")
    axes.set(ylabel="distance ‖w − w₀‖₂", title="Weight distance from initialization")
    finish(axes)
    if fitted:
        grid[1].axhline(0, color="0.5", linewidth=0.8)
        grid[1].set(ylabel="data − fit")
        mesh(grid[1])
    grid[-1].set_xlabel("updates")
    low, high = axes.get_xlim()
    mark_decades(axes.xaxis, low, high, low)
    return figure
