"""The table of measures along runs."""

from __future__ import annotations

from rich.text import Text

from sharpcli.render.labels import run_names
from sharpcli.render.tables.parts import Part, dim, new_table, number, percent, reading_value
from sharpcli.results import WatchResult


def draw_watch(result: WatchResult) -> list[Part]:
    """Return a table with one row per run and saved step; columns without a number are left out."""
    names = run_names([row.run for row in result.rows])
    labels = list(dict.fromkeys(reading.label for row in result.rows for reading in row.readings))
    columns = {
        "step": [number(row.step) for row in result.rows],
        "lr": [number(row.learning_rate) for row in result.rows],
        "train loss": [number(row.train_loss) for row in result.rows],
        "train accuracy": [percent(row.train_accuracy) for row in result.rows],
        "test loss": [number(row.test_loss) for row in result.rows],
        "test accuracy": [percent(row.test_accuracy) for row in result.rows],
        "lambda max": [number(row.lambda_max) for row in result.rows],
        "residual": [number(row.lambda_max_residual, 2) for row in result.rows],
        "phi": [number(row.phi) for row in result.rows],
        "distance": [number(row.distance) for row in result.rows],
    }
    for label in labels:
        known = [{reading.label: reading for reading in row.readings} for row in result.rows]
        columns[label] = [reading_value(one.get(label)) for one in known]
    shown = {name: cells for name, cells in columns.items() if any(cell != "–" for cell in cells)}
    several = len(set(names)) > 1
    table = new_table("Along the run" + "s" * several, *["run"] * several, *shown)
    for place, name in enumerate(names):
        table.add_row(*[name] * several, *(cells[place] for cells in shown.values()))
    reused = sum(row.reused for row in result.rows)
    unit = f" in {result.loss_unit}" if result.loss_unit else ""
    note = (
        f"losses{unit}: {result.loss_function}, BatchNorm {result.batch_norm}; lambda max of the Hessian"
        + (f"; phi = ε-sharpness, ε = {result.epsilon:g}, percent" if "phi" in shown else "")
        + f"; measured on the {result.settings['split']} split; {reused} of {len(result.rows)} rows reused; "
        f"{result.seconds:.1f} s"
    )
    notes = [
        Text(f"{name}, step {row.step}: {text}", style="yellow")
        for name, row in zip(names, result.rows, strict=True)
        for text in row.notes
    ]
    return [table, dim(note), *notes, Text()]
