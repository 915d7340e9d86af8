"""Figures of several checkpoints: the values of each, or with many of them each measure against the generalization gap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpcli.errors import SettingsError
from sharpcli.render.figures.style import drawable, mesh, name_rows, plain_number, styles
from sharpcli.render.labels import distinct, per_term
from sharpcli.results import CompareResult, CompareRow

_FEW = 8  # Up to this number of checkpoints, values are drawn by name; with more, as points against the gap.
_ACROSS = 4  # Most panels in a row.
_ROW, _PANEL, _TOP = 0.42, 2.6, 1.5  # Inches: height of a checkpoint, width of a measure, height of titles and axes.
_GAP = "generalization gap: test − train loss"


class _Measure(NamedTuple):
    name: str
    value: Callable[[CompareRow], float | None]
    bar: Callable[[CompareRow], float | None]


def draw_compare(results: Sequence[CompareResult]) -> Figure:
    """Draw gap and measures of each checkpoint by its name; with many checkpoints, each measure against the gap.

    Raises:
        SettingsError: The result has no measure.
    """
    result = results[0]
    measures = [
        _Measure("λmax of the Hessian", lambda row: row.lambda_max, lambda row: row.lambda_max_residual),
        _Measure(f"φ, ε = {result.epsilon:g} (%)", lambda row: row.phi, lambda _: None),
        _Measure("distance ‖w − w₀‖₂", lambda row: row.distance, lambda _: None),
    ]
    labels = dict.fromkeys(reading.label for row in result.rows for reading in row.readings)
    measures += [
        _Measure(label, partial(_of_reading, label, "value"), partial(_of_reading, label, "standard_error")) for label in labels
    ]
    shown = [measure for measure in measures if any(measure.value(row) is not None for row in result.rows)]
    if not shown:
        raise SettingsError("There is no measure to draw.", "Add one with --metrics hessian,sharpness,distance.")
    names = distinct([row.checkpoint for row in result.rows])
    return _by_name(result, names, shown) if len(names) <= _FEW else _against_gap(result, names, shown)


def _of_reading(label: str, field: str, row: CompareRow) -> float | None:
    """Return a number of the reading with a label; None if the row has none."""
    found: float | None = next((getattr(reading, field) for reading in row.readings if reading.label == label), None)
    return found


def _by_name(result: CompareResult, names: Sequence[str], measures: Sequence[_Measure]) -> Figure:
    """Draw a panel for the gap and for each measure, and in each a row for each checkpoint."""
    gap = _Measure(_gap_label(result), lambda row: row.gap, lambda row: row.gap_standard_error)
    panels = [gap, *measures]
    across, down = _grid(len(panels))
    figure = Figure(figsize=(1.2 + _PANEL * across, 0.9 + (_TOP - 0.9 + _ROW * len(names)) * down), layout="constrained")
    for axes, measure in zip(_panels(figure, len(panels)), panels, strict=True):
        for place, (row, style) in enumerate(zip(result.rows, styles(), strict=False)):
            value, bar = measure.value(row), measure.bar(row)
            if value is not None and math.isfinite(value):
                points = {**style, "linestyle": "none", "markersize": 7}
                axes.errorbar(value, place, xerr=bar if bar is not None and math.isfinite(bar) else None, **points)
                text = plain_number(float(f"{value:.3g}"))
                axes.annotate(text, (value, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize="small")
        axes.set_xlabel(measure.name)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0), high + 0.2 * (high - min(low, 0)))
        mesh(axes)
        axes.grid(visible=False, axis="y")
        name_rows(axes, names)
    figure.suptitle(_title(result, "gap and measures ± standard error; λmax ± residual; φ is a lower bound"))
    return figure


def _against_gap(result: CompareResult, names: Sequence[str], measures: Sequence[_Measure]) -> Figure:
    """Draw each measure against the gap, with one legend."""
    across, down = _grid(len(measures))
    size = (1 + 3.6 * across, 0.6 + 3.3 * down + 0.2 * math.ceil(len(names) / 3))
    figure = Figure(figsize=size, layout="constrained")
    grid = _panels(figure, len(measures))
    handles: dict[str, Any] = {}
    for axes, measure in zip(grid, measures, strict=True):
        for name, row, style in zip(names, result.rows, styles(), strict=False):
            value = measure.value(row)
            if value is not None and math.isfinite(value):
                points = {**style, "linestyle": "none", "markersize": 6}
                handles[name] = axes.errorbar(value, row.gap, yerr=row.gap_standard_error, **points)
        axes.set_xlabel(measure.name)
        axes.margins(x=0.15)
        mesh(axes)
    for first in grid[::across]:
        first.set_ylabel(_gap_label(result))
    figure.suptitle(_title(result, "bars: gap ± standard error"))
    figure.legend(
        list(handles.values()),
        [drawable(name) for name in handles],
        loc="outside lower center",
        ncols=min(len(handles), 4),
        frameon=False,
    )
    return figure


def _gap_label(result: CompareResult) -> str:
    """Return the label of an axis of gaps, with its unit if it is not that of a sample."""
    units = {per_term(row.loss_unit, row.terms_per_sample) for row in result.rows}
    unit = units.pop() if len(units) == 1 else ""
    return f"{_GAP}\n({unit})" if unit else _GAP


def _grid(count: int) -> tuple[int, int]:
    """Return the numbers of columns and rows for a number of panels."""
    across = min(count, _ACROSS)
    return across, -(-count // across)


def _panels(figure: Figure, count: int) -> Sequence[Axes]:
    """Return panels in rows; places of the last row that are not needed stay empty."""
    across, down = _grid(count)
    every: list[Axes] = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    for axes in every[count:]:
        axes.remove()
    return every[:count]


def _title(result: CompareResult, bars: str) -> str:
    sizes = [f"{number} {split}" for number, split in ((result.num_train, "train"), (result.num_test, "test")) if number]
    return "Sharpness and generalization" + (f" ({' and '.join(sizes)} samples)" if sizes else "") + f"\n{bars}"
