"""Tables of training and its recipes."""

from __future__ import annotations

import itertools

from rich.text import Text

from sharpcli.render.labels import per_term, samples_with, terms_named
from sharpcli.render.tables.parts import Command, Facts, Part, dim, new_table, number, percent
from sharpcli.results import (
    RecipesResult,
    TrainResult,
)


def draw_train(result: TrainResult) -> list[Part]:
    """Return one row per run, the files, and the next commands."""
    start = "the same initial weights" if result.init_sha256 else "different initial weights"
    names = [row.name if row.average is None else f"{row.name} ({row.average})" for row in result.rows]
    table = new_table(
        f"Trained from {start} (P = {result.num_parameters}, {result.device})",
        "run", "batch size", "updates", "epochs", "train loss", "train accuracy", "test loss", "test accuracy", "gap",
        "stopped by", "seconds",
    )  # fmt: skip
    for name, row in zip(names, result.rows, strict=True):
        table.add_row(
            name,
            str(row.batch_size),
            str(row.updates),
            number(row.epochs),
            number(row.train_loss),
            percent(row.train_accuracy),
            number(row.test_loss),
            percent(row.test_accuracy),
            number(row.gap),
            row.stopped_by,
            f"{row.seconds:.3g}",
        )
    files = Facts("Files", [(name, row.checkpoint) for name, row in zip(names, result.rows, strict=True)])
    commands = [Command(f"  {command}") for command in result.next_commands]
    unit = per_term(result.loss_unit, result.terms_per_sample)
    samples = samples_with(result.loss_unit, result.terms_per_sample)
    about = f"losses and gap in {unit}; accuracies of {terms_named(unit)}; batch sizes count{samples}"
    notes = [dim(about)] if unit else []
    return [table, *notes, files, Text("Next:"), *commands, Text()]


def draw_recipes(result: RecipesResult) -> list[Part]:
    """Return every recipe, paper by paper."""
    parts: list[Part] = []
    for source, rows in itertools.groupby(result.rows, key=lambda row: row.source.partition(": ")[0]):
        papers = list(rows)
        lines = [(row.name, (row.summary, row.changes, f"({row.source.partition(': ')[2]})")) for row in papers]
        parts.append(
            Facts(source, [(name if not place else "", text) for name, texts in lines for place, text in enumerate(texts)])
        )
        parts += [dim(f"  Networks of the paper: {papers[0].networks}. {papers[0].note}"), Text()]
    return [*parts, Text("Use a recipe with 'sharpcli train --recipe NAME'. Other options override its settings.")]
