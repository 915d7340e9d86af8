"""The table that compares several checkpoints."""

from __future__ import annotations

from rich.text import Text

from sharpcli.render.labels import distinct
from sharpcli.render.tables.parts import Part, dim, inputs_and_outputs, new_table, number, percent, plus_minus
from sharpcli.results import CompareResult


def draw_compare(result: CompareResult) -> list[Part]:
    """Return a table with one row per checkpoint."""
    table = new_table(
        "Comparison",
        "checkpoint", "train loss", "train accuracy", "test loss", "test accuracy", "gap", "lambda max", "phi", "distance",
        "batch size", "updates",
    )  # fmt: skip
    names = distinct([row.checkpoint for row in result.rows])
    for name, row in zip(names, result.rows, strict=True):
        table.add_row(
            name,
            number(row.train_loss),
            percent(row.train_accuracy),
            number(row.test_loss),
            percent(row.test_accuracy),
            plus_minus(row.gap, row.gap_standard_error),
            number(row.lambda_max),
            number(row.phi),
            number(row.distance),
            number(row.batch_size),
            number(row.updates),
        )
    samples = (
        f"{result.num_train} train and {result.num_test} test samples" if result.num_train else "numbers of samples differ"
    )
    conditions = {f"; {row.loss_function}{inputs_and_outputs(row.preprocessing, row.output)}" for row in result.rows}
    note = dim(
        f"gap = test loss − train loss ± standard error; lambda max of the Hessian; phi = ε-sharpness, ε = {result.epsilon:g}, "
        f"full space, percent, both on the {result.settings['split']} split; distance = ‖w−w₀‖; "
        f"{samples}{''.join(conditions)}; {result.seconds:.1f} s"
    )
    notes = [
        Text(f"{name}: {text}", style="yellow") for name, row in zip(names, result.rows, strict=True) for text in row.notes
    ]
    return [table, note, *notes, Text()]
