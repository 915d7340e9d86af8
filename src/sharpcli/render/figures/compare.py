"""Figure of each measure against the generalization gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from sharpcli.errors import SettingsError
from sharpcli.render.figures.style import mesh, styles
from sharpcli.render.labels import distinct
from sharpcli.results import CompareResult, CompareRow


def draw_compare(results: Sequence[CompareResult]) -> Figure:
    """Draw each measure against the generalization gap, one panel per measure."""
    result = results[0]
    measures: dict[str, Callable[[CompareRow], float | None]] = {
        "λmax of the Hessian": lambda row: row.lambda_max,
        f"φ, ε = {result.epsilon:g} (%)": lambda row: row.phi,
        "distance ‖w − w₀‖₂": lambda row: row.distance,
    }
    shown = {name: get for name, get in measures.items() if any(get(row) is not None for row in result.rows)}
    if not shown:
        raise SettingsError("There is no measure to draw.", "Add one with --metrics hessian,sharpness,distance.")
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
