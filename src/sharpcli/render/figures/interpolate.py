"""Loss, accuracy and curvature along paths between solutions, and the barriers between any two of several."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from sharpcli.render.barriers import barrier_matrix
from sharpcli.render.figures.style import finish, plain_ticks, styles
from sharpcli.render.labels import distinct, loss_label
from sharpcli.results import PathCurvature, PathResult

_LOG_RATIO = 30.0  # A loss that varies by more than this factor is drawn on a logarithmic axis.
_MOST_PATHS = 3  # Side by side; with more of them only the matrices are drawn.
_WIDTH = 4.4  # Of one path, in inches.
_LONGEST_TITLE = 42  # Characters on one line above a path.


def draw_paths(results: Sequence[PathResult]) -> Figure:
    """Draw the paths, and for several pairs the matrix of barriers; for more than three pairs only the matrices."""
    if len(results) == 1:
        figure = Figure(figsize=(1.6 + _WIDTH, _height(results)), layout="constrained")
        _paths(figure, results)
        return figure
    size = 1.6 + 0.75 * len({subject.path for result in results for subject in (result.start, result.end)})
    splits = [curve.split for curve in results[0].curves]
    if len(results) > _MOST_PATHS:
        figure = Figure(figsize=((size + 1) * len(splits), size), layout="constrained")
        panels = figure.subplots(1, len(splits), squeeze=False)[0]
    else:
        width = 1.6 + _WIDTH * len(results)
        figure = Figure(figsize=(width + size + 1, _height(results)), layout="constrained")
        halves = figure.subfigures(1, 2, squeeze=False, width_ratios=(width, size + 1))
        left, right = halves[0]
        _paths(left, results)
        panels = right.subplots(len(splits), 1, squeeze=False)[:, 0]
    for axes, split in zip(panels, splits, strict=True):
        _matrix(axes, results, split)
    return figure


def _height(results: Sequence[PathResult]) -> float:
    return 8.4 if any(result.curvature for result in results) else 6.0


def _matrix(axes: Axes, results: Sequence[PathResult], split: str) -> None:
    """Draw barriers as a grid of numbers on grey."""
    names, rows = barrier_matrix(results, split)
    heights = [[math.nan if value is None else value for value in row] for row in rows]
    highest = max((value for row in heights for value in row if math.isfinite(value)), default=0.0)
    axes.imshow(heights, cmap="Greys", vmin=0, vmax=2 * highest or 1)  # Light enough for black numbers.
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            axes.text(column, row, _shown(value), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_title(f"barrier of the {split} loss", fontsize=10)


def _paths(figure: FigureBase, results: Sequence[PathResult]) -> None:
    """Draw loss and accuracy along each path, train and test, one column per path."""
    curved = any(result.curvature for result in results)
    grid = figure.subplots(2 + curved, len(results), sharex="col", sharey="row", squeeze=False)
    everywhere = [loss for result in results for curve in result.curves for loss in curve.loss if math.isfinite(loss)]
    logarithmic = min(everywhere) > 0 and max(everywhere) > _LOG_RATIO * min(everywhere)
    for column, result in enumerate(results):
        upper, lower = grid[0][column], grid[1][column]
        for curve, style in zip(result.curves, styles(), strict=False):
            upper.plot(result.alphas, curve.loss, label=f"{curve.split} (barrier {_shown(curve.barrier)})", **style)
            percents = [math.nan if value is None else 100 * value for value in curve.accuracy]
            lower.plot(result.alphas, percents, label=curve.split, **style)
        if logarithmic:
            upper.set_yscale("log")
            plain_ticks(upper.yaxis)
        upper.set(
            ylabel=loss_label(result.loss_function),
            title=_title(*distinct([result.start, result.end])),
        )
        lower.set(ylabel="accuracy (%)")
        panels = [upper, lower]
        if result.curvature is not None:
            panels.append(grid[2][column])
            for (name, values), style in zip(_curvatures(result.curvature), styles(), strict=False):
                panels[2].plot(result.alphas, values, label=name, **style)
            panels[2].set_yscale("symlog", linthresh=1.0)
            plain_ticks(panels[2].yaxis)
            panels[2].set(ylabel="curvature")
        panels[-1].set(xlabel=f"α along the {result.path} path")
        for axes in panels:
            for end in (0, 1):
                axes.axvline(end, color="0.6", linewidth=0.8)
            low, high = result.alphas[0], result.alphas[-1]
            axes.axvspan(low, 0, color="0.93", zorder=0)
            axes.axvspan(1, high, color="0.93", zorder=0)
            axes.set_xlim(low, high)
            finish(axes)


def _title(start: str, end: str) -> str:
    """Return the names of both ends, on two lines if they are long."""
    first, second = f"{start} (α = 0)", f"to {end} (α = 1)"
    return f"{first}{' ' if len(first) + len(second) < _LONGEST_TITLE else chr(10)}{second}"


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
