"""Figure of the measures of sharpness: a row for each, a panel for each unit, the checkpoints by colour and marker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpcli.errors import SettingsError
from sharpcli.render.figures.style import mesh, name_rows, plain_ticks, styles
from sharpcli.render.labels import distinct, samples_with
from sharpcli.results import SharpnessResult

_WIDTH, _ROW, _TOP = 7.0, 0.34, 0.75  # Inches: of the figure, of a row, and of what a panel has besides its rows.
_LOG_RATIO = 30.0  # Values that vary by more than this factor are drawn on a logarithmic axis.
_SPREAD = 0.5  # Part of a row over which the checkpoints are spread.


class _Value(NamedTuple):
    row: str
    unit: str
    checkpoint: int
    value: float
    error: float


def draw_sharpness(results: Sequence[SharpnessResult]) -> Figure:
    """Draw each measure of each checkpoint with its standard error; a value that failed is left out.

    Raises:
        SettingsError: There is no value to draw.
    """
    values = [
        _Value(_name(record), record["unit"], number, record["value"], record["standard_error"] or 0.0)
        for number, result in enumerate(results)
        for record in result.records()
        if record["value"] is not None and math.isfinite(record["value"])
    ]
    if not values:
        raise SettingsError("There is no value to draw.", "See the notes above for the reasons.")
    units = {unit: list(dict.fromkeys(one.row for one in values if one.unit == unit)) for unit in {v.unit: 0 for v in values}}
    names = distinct([result.checkpoint for result in results])
    heights = [_TOP + _ROW * len(rows) for rows in units.values()]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.7), layout="constrained")
    panels = figure.subplots(len(units), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (unit, rows) in zip(panels, units.items(), strict=True):
        _panel(axes, unit, rows, [one for one in values if one.unit == unit], names)
    about = results[0].conditions
    title = f"Sharpness of {names[0]}" if len(names) == 1 else "Sharpness"
    size = f"{about.num_samples}{samples_with(about.loss_unit, about.terms_per_sample)}"
    figure.suptitle(f"{title} ({about.split} loss, N = {size})\nbars: standard error; searches give lower bounds")
    if len(names) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    return figure


def _name(record: dict[str, Any]) -> str:
    label = str(record["label"])
    return label if label.startswith(record["measure"]) else f"{record['measure']} {label}".strip()


def _panel(axes: Axes, unit: str, rows: Sequence[str], values: Sequence[_Value], names: Sequence[str]) -> None:
    """Draw the measures of one unit."""
    step = _SPREAD / max(len(names) - 1, 1)
    for number, (name, style) in enumerate(zip(names, styles(), strict=False)):
        own = [one for one in values if one.checkpoint == number]
        shift = (number - (len(names) - 1) / 2) * step * (len(names) > 1)
        axes.errorbar(
            [one.value for one in own],
            [rows.index(one.row) + shift for one in own],
            xerr=[one.error for one in own],
            label=name,
            **{**style, "linestyle": "none", "markersize": 6},
        )
    sizes = [one.value for one in values]
    if min(sizes) > 0 and max(sizes) > _LOG_RATIO * min(sizes):
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    elif min(sizes) >= 0:
        axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    mesh(axes)
    name_rows(axes, rows)
    axes.tick_params(axis="y", labelsize="small")
