"""Figure of the distance from initialization along runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpcli.errors import SettingsError
from sharpcli.render.figures.style import finish, mark_decades, mesh, styles
from sharpcli.render.labels import distinct
from sharpcli.results import DistanceResult, Growth

_MOST_FITTED = 3  # Runs that are drawn with their fits, one in each column; with more, only their distances are drawn.
_DATA: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4, "linestyle": "none"}
_FITS: dict[str, dict[str, Any]] = {
    "log": {"color": "#0072B2", "linestyle": "-", "marker": "s"},
    "power": {"color": "#D55E00", "linestyle": "--", "marker": "^"},
}


def draw_distances(results: Sequence[DistanceResult]) -> Figure:
    """Draw distance from initialization against the update, with both fits, and below the residuals of the fits.

    Raises:
        SettingsError: No result is along a run.
    """
    if not any(result.steps or result.growth for result in results):
        raise SettingsError(
            "There are no distances along a run to draw.",
            "Give a run folder with saved steps or distances.jsonl, or leave --plot out.",
        )
    names = distinct([result.checkpoint for result in results])
    if len(results) <= _MOST_FITTED and all(result.growth for result in results):
        return _with_fits(results, names)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, result, style in zip(names, results, styles(), strict=False):
        steps = [step.step or 0 for step in result.steps]
        points = (result.growth.steps, result.growth.distances) if result.growth else (steps, _distances(result))
        axes.plot(*points, label=name, **style)
    axes.set(ylabel="distance ‖w − w₀‖₂", xlabel="updates", title="Weight distance from initialization")
    finish(axes)
    _logarithmic(axes)
    return figure


def _with_fits(results: Sequence[DistanceResult], names: Sequence[str]) -> Figure:
    """Draw a column for each run: its distances with both fits, and the residuals of the fits."""
    width = 6.4 if len(results) == 1 else 4.0 * len(results)
    figure = Figure(figsize=(width, 6.4), layout="constrained")
    grid = figure.subplots(2, len(results), sharex="col", sharey="row", squeeze=False, height_ratios=(2, 1))
    for column, (name, result) in enumerate(zip(names, results, strict=True)):
        growth, upper, lower = result.growth, grid[0][column], grid[1][column]
        assert growth is not None
        upper.plot(growth.steps, growth.distances, label="distance", **_DATA)
        for fit in growth.fits:
            values = [distance - left for distance, left in zip(growth.distances, fit.residuals, strict=True)]
            line = {name: value for name, value in _FITS[fit.form].items() if name != "marker"}
            upper.plot(growth.steps, values, label=_named(growth, fit.form), **line)
            lower.plot(growth.steps, fit.residuals, markersize=3, **_FITS[fit.form])
        upper.set_title(name)
        finish(upper)
        lower.axhline(0, color="0.5", linewidth=0.8)
        lower.set_xlabel("updates")
        mesh(lower)
        _logarithmic(upper)
    grid[0][0].set_ylabel("distance ‖w − w₀‖₂")
    grid[1][0].set_ylabel("data − fit")
    figure.suptitle("Weight distance from initialization")
    return figure


def _named(growth: Growth, form: str) -> str:
    """Return the name of a fit, with R², and whether Akaike's criterion prefers it."""
    fit = next(fit for fit in growth.fits if fit.form == form)
    shape = "a + b log t" if form == "log" else f"c t^{fit.parameters['p']:.2f}"
    return f"{shape}, R² {fit.r_squared:.3f}{' (lower AIC)' if growth.preferred == form else ''}"


def _distances(result: DistanceResult) -> list[float]:
    return [step.distance for step in result.steps]


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    mark_decades(axes.xaxis, low, high, low)
