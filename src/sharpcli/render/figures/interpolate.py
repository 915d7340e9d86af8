"""Loss, accuracy and curvature along paths between solutions, and the barriers between any two of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from sharpcli.render.barriers import barrier_matrix
from sharpcli.render.figures.style import faded, finish, plain_ticks, styles
from sharpcli.render.labels import distinct, loss_label
from sharpcli.results import PathCurvature, PathResult

_LOG_RATIO = 30.0  # A loss that varies by more than this factor is drawn on a logarithmic axis.
_MOST_PATHS = 3  # Side by side; with more of them only the matrices are drawn.
_WIDTHS = {1: 6.0, 2: 9.6, 3: 11.0}  # Inches, by the number of paths.
_PANEL = 2.9  # Height of a panel in inches.
_FAINT = 0.55  # Strength of the colour of a straight path beside a curve.
_LONGEST_TITLE = 42  # Characters on one line above the path of a figure of one.


def draw_paths(results: Sequence[PathResult]) -> Figure:
    """Draw the paths, and for several pairs the matrix of barriers; for more than three pairs only the matrices."""
    rows = 2 + any(result.curvature for result in results)
    if len(results) == 1:
        figure = Figure(figsize=(_WIDTHS[1], _PANEL * rows), layout="constrained")
        _paths(figure, results)
        return figure
    size = 1.6 + 0.75 * len({subject.path for result in results for subject in (result.start, result.end)})
    splits = [curve.split for curve in results[0].curves]
    if len(results) > _MOST_PATHS:
        figure = Figure(figsize=((size + 1) * len(splits), size), layout="constrained")
        below: FigureBase = figure
    else:
        upper = _PANEL * rows
        figure = Figure(figsize=(_WIDTHS[len(results)], upper + size), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(upper, size))[:, 0]
        _paths(above, results)
    panels = below.subplots(1, len(splits), squeeze=False)[0]
    for axes, split in zip(panels, splits, strict=True):
        _matrix(axes, results, split)
    return figure


def _matrix(axes: Axes, results: Sequence[PathResult], split: str) -> None:
    """Draw barriers as a grid of numbers on grey."""
    names, rows = barrier_matrix(results, split)
    heights = [[math.nan if value is None else value for value in row] for row in rows]
    highest = max((value for row in heights for value in row if math.isfinite(value)), default=0.0)
    axes.imshow(heights, cmap="Greys", vmin=0, vmax=2 * highest or 1)  # Light enough for black numbers.
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            axes.text(column, row, _shown(value), ha="center", va="center", fontsize="small")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize="small")
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_title(f"barrier of the {split} loss")


def _paths(figure: FigureBase, results: Sequence[PathResult]) -> None:
    """Draw loss and accuracy along each path, train and test, one column per path."""
    curved = any(result.curvature for result in results)
    grid = figure.subplots(2 + curved, len(results), sharex="col", sharey="row", squeeze=False)
    curves = [curve for result in results for curve in (*result.curves, *result.straight)]
    everywhere = [loss for curve in curves for loss in curve.loss if math.isfinite(loss)]
    logarithmic = min(everywhere) > 0 and max(everywhere) > _LOG_RATIO * min(everywhere)
    for column, result in enumerate(results):
        upper, lower = grid[0][column], grid[1][column]
        _curves(upper, lower, result)
        if logarithmic:
            upper.set_yscale("log")
            plain_ticks(upper.yaxis)
        names = distinct([result.start, result.end])
        upper.set_title(_title(names, _LONGEST_TITLE // len(results)))
        panels, labels = [upper, lower], [loss_label(result.loss_unit), "accuracy (%)"]
        if result.curvature is not None:
            panels.append(grid[2][column])
            labels.append("curvature")
            for (name, values), style in zip(_curvatures(result.curvature), styles(), strict=False):
                panels[2].plot(result.alphas, values, label=name, **style)
            panels[2].set_yscale("symlog", linthresh=1.0)
            plain_ticks(panels[2].yaxis)
        panels[-1].set(xlabel=f"α along the {result.path} path")
        for axes, label in zip(panels, labels, strict=True):
            if not column:
                axes.set_ylabel(label)
            for end in (0, 1):
                axes.axvline(end, color="0.6", linewidth=0.8)
            low, high = result.alphas[0], result.alphas[-1]
            axes.axvspan(low, 0, color="0.93", zorder=0)
            axes.axvspan(1, high, color="0.93", zorder=0)
            axes.set_xlim(low, high)
            finish(axes)


def _curves(upper: Axes, lower: Axes, result: PathResult) -> None:
    """Draw loss and accuracy of each split, with those of the straight path in the same colours but fainter."""
    for curve, style in zip(result.curves, styles(), strict=False):
        upper.plot(result.alphas, curve.loss, label=f"{curve.split} (barrier {_shown(curve.barrier)})", **style)
        lower.plot(result.alphas, _percents(curve.accuracy), label=curve.split, **style)
    for curve, style in zip(result.straight, styles(), strict=False):
        faint: dict[str, Any] = {"color": faded(style["color"], _FAINT), "linestyle": ":", "linewidth": 1.3}
        name = f"{curve.split}, straight"
        upper.plot(result.alphas, curve.loss, label=f"{name} (barrier {_shown(curve.barrier)})", **faint)
        lower.plot(result.alphas, _percents(curve.accuracy), label=name, **faint)


def _percents(shares: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 100 * value for value in shares]


def _title(names: Sequence[str], room: int) -> str:
    """Return the names of both ends, on two lines if they are long."""
    first, second = f"{names[0]} (α = 0)", f"to {names[1]} (α = 1)"
    return f"{first}{' ' if len(first) + len(second) < room else chr(10)}{second}"


def _shown(barrier: float | None) -> str:
    return "–" if barrier is None else f"{barrier:.3g}"


def _curvatures(curvature: PathCurvature) -> list[tuple[str, list[float]]]:
    """Return the lines of the panel of curvature, gaps as NaN."""
    lines = {"λmax of the Hessian": curvature.lambda_max, "along the path": curvature.along}
    return [
        (name, [math.nan if value is None else value for value in values])
        for name, values in lines.items()
        if any(value is not None for value in values)
    ]
