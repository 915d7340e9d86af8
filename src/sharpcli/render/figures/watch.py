"""Measures along runs as one figure: losses, learning rate, and a panel for each measure, all against the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpcli.render.figures.style import Panel, lay_out, legend_below, mesh, plain_ticks, styles
from sharpcli.render.labels import loss_label, run_names
from sharpcli.results import WatchResult, WatchRow

_WIDE = 30.0  # Values that differ by more than this factor get a logarithmic axis.

_Value = Callable[[WatchRow], float | None]


def draw_watch(results: Sequence[WatchResult]) -> Figure:
    """Draw losses, learning rate and every measure that was requested, with one line per run."""
    result = results[0]
    runs: dict[str, list[WatchRow]] = {}
    for name, row in zip(run_names([row.run for row in result.rows]), result.rows, strict=True):
        runs.setdefault(name, []).append(row)
    panels: list[Panel] = [partial(_losses, runs=runs, label=loss_label(result.loss_unit))]
    values: dict[str, tuple[_Value, _Value]] = {
        "learning rate": (lambda row: row.learning_rate, lambda _: None),
        "λmax of the Hessian": (lambda row: row.lambda_max, lambda row: row.lambda_max_residual),
        f"φ, ε = {result.epsilon:g} (%)": (lambda row: row.phi, lambda _: None),
        "distance ‖w − w₀‖₂": (lambda row: row.distance, lambda _: None),
    }
    for label in dict.fromkeys(reading.label for row in result.rows for reading in row.readings):
        values[label] = (partial(_of_reading, label, "value"), partial(_of_reading, label, "standard_error"))
    panels += [
        partial(_measure, runs=runs, label=label, value=value, error=error)
        for label, (value, error) in values.items()
        if any(value(row) is not None for row in result.rows)
    ]
    rows = [panels[place : place + 2] for place in range(0, len(panels), 2)]
    return lay_out(rows, [1.0] * len(rows))


def _of_reading(label: str, field: str, row: WatchRow) -> float | None:
    found: float | None = next((getattr(reading, field) for reading in row.readings if reading.label == label), None)
    return found


def _losses(axes: Axes, runs: dict[str, list[WatchRow]], label: str) -> None:
    every: list[float] = []
    for (name, rows), style in zip(runs.items(), styles(), strict=False):
        steps, train = [row.step for row in rows], [row.train_loss for row in rows]
        axes.plot(steps, train, label=f"{name}, train", **style)
        test = [(row.step, row.test_loss) for row in rows if row.test_loss is not None]
        every += [*train, *(loss for _, loss in test)]
        if test:
            hollow = style | {"linestyle": ":", "markerfacecolor": "white"}
            axes.plot(*zip(*test, strict=True), label=f"{name}, test", **hollow)
    _finish(axes, label[0].upper() + label[1:], every)


def _measure(axes: Axes, runs: dict[str, list[WatchRow]], label: str, value: _Value, error: _Value) -> None:
    every: list[float] = []
    for (name, rows), style in zip(runs.items(), styles(), strict=False):
        points = [(row.step, found, error(row) or 0.0) for row in rows if (found := value(row)) is not None]
        if points:
            steps, values, errors = zip(*points, strict=True)
            axes.errorbar(steps, values, yerr=errors, capsize=2, label=name, **style)
            every += values
    _finish(axes, label, every)


def _finish(axes: Axes, label: str, values: Sequence[float]) -> None:
    axes.set(xlabel="updates", ylabel=label)
    axes.set_title(label)
    if values and min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    mesh(axes)
    legend_below(axes)
