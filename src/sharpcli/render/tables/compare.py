"""The table that compares several checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.labels import distinct, samples_with
from sharpcli.render.tables.parts import Part, dim, inputs_and_outputs, new_table, number, percent, plus_minus, reading_value
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
    units = {(row.loss_unit, row.terms_per_sample) for row in result.rows if row.terms_per_sample != 1}
    per = "".join(f"; losses in {unit},{samples_with(unit, terms)}" for unit, terms in sorted(units))
    conditions = {f"; {row.loss_function}{inputs_and_outputs(row.preprocessing, row.output)}" for row in result.rows}
    note = dim(
        f"gap = test loss − train loss ± standard error; lambda max of the Hessian; phi = ε-sharpness, ε = {result.epsilon:g}, "
        f"full space, percent, both on the {result.settings['split']} split; distance = ‖w−w₀‖; "
        f"{samples}{per}{''.join(conditions)}; {result.seconds:.1f} s"
    )
    notes = [
        Text(f"{name}: {text}", style="yellow") for name, row in zip(names, result.rows, strict=True) for text in row.notes
    ]
    more = [_readings(result, names)] if any(row.readings for row in result.rows) else []
    return [table, note, *more, *_correlations(result), *notes, Text()]


def _readings(result: CompareResult, names: Sequence[str]) -> Part:
    """Return a table of the named measures, with one row per checkpoint."""
    labels = list(dict.fromkeys(reading.label for row in result.rows for reading in row.readings))
    table = new_table("Measures", "checkpoint", *labels)
    for name, row in zip(names, result.rows, strict=True):
        known = {reading.label: reading for reading in row.readings}
        table.add_row(name, *(reading_value(known.get(label)) for label in labels))
    return table


def _correlations(result: CompareResult) -> list[Part]:
    """Return the rank correlations of the measures with the gap, if there are any."""
    if not result.correlations:
        return []
    table = new_table("Rank correlation with the gap", "measure", "Kendall's τ", "p", "checkpoints")
    for one in result.correlations:
        table.add_row(one.measure, number(one.tau), number(one.p_value), number(one.checkpoints))
    return [table, dim("p: of independence; it does not know the errors of the gaps, or that checkpoints share a run")]
