"""Results as figures. Every line differs in marker and dash, not in colour alone, so print in grey is readable."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context, rcParams, rcParamsDefault
from matplotlib.figure import Figure
from matplotlib.text import Text

from sharpcli.errors import SettingsError
from sharpcli.render.figure import finish, mark_decades, mesh, styles
from sharpcli.render.hessian_figures import draw_hessian
from sharpcli.render.labels import distinct
from sharpcli.render.path_figures import draw_paths
from sharpcli.render.surface_figures import draw_surface
from sharpcli.results import (
    CompareResult,
    CompareRow,
    DistanceResult,
    HessianResult,
    PathResult,
    Result,
    SurfaceResult,
)

FORMATS = ("png", "pdf", "svg")


def check_format(path: Path) -> None:
    """Refuse a file name whose ending is no picture, before any work is done.

    Raises:
        SettingsError: The ending is not png, pdf or svg.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise SettingsError(f"--plot {path} does not end in {', '.join(FORMATS)}.", f"Write --plot {path.stem or 'out'}.png.")


def draw(results: Sequence[Result], path: Path) -> bytes:
    """Return the figure of a command's answers in the format that the path's ending names.

    Raises:
        SettingsError: The ending is unknown, or there is nothing to draw.
    """
    check_format(path)
    ending, buffer = path.suffix.lower().removeprefix("."), io.BytesIO()
    # Without dates and random ids, equal results give equal bytes.
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[ending]
    with _own_style():
        figure = _DRAWERS[type(results[0])](results)
        for text in figure.findobj(Text):  # A file's name may hold bytes that are no letters.
            text.set_text(text.get_text().encode("utf-8", "replace").decode())
        figure.savefig(buffer, format=ending, dpi=150, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _own_style() -> Iterator[None]:
    """Draw by matplotlib's own defaults, whatever a matplotlibrc or a model's code has set, and take every text as it is.

    Names of checkpoints are no formulas, although they may hold dollar signs.
    """
    with rc_context():
        rcParams.update({name: value for name, value in rcParamsDefault.items() if name != "backend"})
        rcParams.update({"svg.hashsalt": "sharpcli", "text.parse_math": False})
        yield


def _distances(results: Sequence[DistanceResult]) -> Figure:
    """Draw distance from initialization against the update, with both fits, and below what the fits leave over."""
    if not any(result.steps or result.growth for result in results):
        raise SettingsError(
            "There is nothing along a run to draw.",
            "Name a run folder with saved steps or distances.jsonl, or leave --plot out.",
        )
    fitted = any(result.growth for result in results)
    figure = Figure(figsize=(6.4, 6.4 if fitted else 4.4), layout="constrained")
    grid = figure.subplots(1 + fitted, 1, sharex=True, squeeze=False, height_ratios=(2, 1)[: 1 + fitted])[:, 0]
    axes = grid[0]
    names = distinct([result.checkpoint for result in results])
    for name, result, style in zip(names, results, styles(), strict=False):
        points = {**style, "linestyle": "none"}
        if result.growth is None:
            axes.plot([one.step or 0 for one in result.steps], [one.distance for one in result.steps], label=name, **style)
            continue
        found = result.growth
        axes.plot(found.steps, found.distances, label=name, **points)
        for fit, dash in zip(found.fits, ("-", ":"), strict=True):
            values = [distance - left for distance, left in zip(found.distances, fit.residuals, strict=True)]
            shown = "log t" if fit.form == "log" else f"t^{fit.parameters['p']:.2f}"
            label = f"{name}: {shown}, R² {fit.r_squared:.3f}"
            axes.plot(found.steps, values, color=style["color"], linestyle=dash, label=label)
            grid[1].plot(found.steps, fit.residuals, color=style["color"], linestyle=dash, marker=".", label=f"{name}: {shown}")
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


def _compare(results: Sequence[CompareResult]) -> Figure:
    """Draw each measure against the generalization gap, one panel a measure."""
    result = results[0]
    measures: dict[str, Callable[[CompareRow], float | None]] = {
        "λmax of the Hessian": lambda row: row.lambda_max,
        f"φ, ε = {result.epsilon:g} (%)": lambda row: row.phi,
        "distance ‖w − w₀‖₂": lambda row: row.distance,
    }
    shown = {name: get for name, get in measures.items() if any(get(row) is not None for row in result.rows)}
    if not shown:
        raise SettingsError("There is no measure to draw.", "Ask for one with --metrics hessian,sharpness,distance.")
    names = distinct([row.checkpoint for row in result.rows])
    figure = Figure(figsize=(1 + 3.6 * len(shown), 3.9), layout="constrained")
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (name, get) in zip(grid, shown.items(), strict=True):
        for label, row, style in zip(names, result.rows, styles(), strict=False):
            value = get(row)
            if value is not None:
                points = {**style, "linestyle": "none", "markersize": 7}
                axes.errorbar(value, row.gap, yerr=row.gap_standard_error, capsize=3, label=label, **points)
        axes.set(xlabel=name, ylabel="generalization gap: test − train loss")
        axes.margins(x=0.15)
        mesh(axes)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3), fontsize=9, frameon=False)
    return figure


_DRAWERS: dict[type[Result], Callable[..., Figure]] = {
    HessianResult: draw_hessian,
    PathResult: draw_paths,
    DistanceResult: _distances,
    CompareResult: _compare,
    SurfaceResult: draw_surface,
}
