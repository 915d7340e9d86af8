"""Tables of training and its recipes."""

from __future__ import annotations

import itertools

from rich.console import RenderableType
from rich.text import Text

from sharpcli.render.table import dim, new_table, number, percent
from sharpcli.results import (
    RecipesResult,
    TrainResult,
)


def draw_train(result: TrainResult) -> list[RenderableType]:
    """Return a row a run, the files and what to type next."""
    start = "one set of initial weights" if result.init_sha256 else "several sets of initial weights"
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
            f"{row.gap:.3f}",
            row.stopped_by,
            f"{row.seconds:.0f}",
        )
    files = Text("\n".join(f"{name}: {row.checkpoint}" for name, row in zip(names, result.rows, strict=True)))
    commands = Text("\n".join(["Next:", *(f"  {command}" for command in result.next_commands)]))
    return [table, files, commands, Text()]


def draw_recipes(result: RecipesResult) -> list[RenderableType]:
    """Return every recipe, paper by paper."""
    parts: list[RenderableType] = []
    widest = max(len(row.name) for row in result.rows)
    for source, rows in itertools.groupby(result.rows, key=lambda row: row.source.partition(": ")[0]):
        papers = list(rows)
        parts.append(Text(source))
        for row in papers:
            parts.append(Text(f"  {row.name:{widest}}  {row.summary}"))
            parts.append(dim(f"  {'':{widest}}  {row.changes}"))
            parts.append(dim(f"  {'':{widest}}  ({row.source.partition(': ')[2]})"))
        parts += [dim(f"  Networks of the paper: {papers[0].networks}. {papers[0].note}"), Text()]
    return [*parts, Text("Use one with 'sharpcli train --recipe NAME'; any other option overrides what it sets.")]
