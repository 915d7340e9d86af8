"""sharpcli train"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpcli import plugins
from sharpcli.cli.options import Output, with_options
from sharpcli.cli.running import answer
from sharpcli.errors import InputError, SettingsError
from sharpcli.settings import TrainSettings

NAME = "train"
QUESTION = "Train"
EXAMPLES = (
    (
        "sharpcli train --mode sgd,fullbatch --model mlp --epochs 2 --out runs/first",
        "Two runs from the same initial weights on the embedded images.",
    ),
    ("sharpcli train --list-recipes", "Settings of papers, with their sources."),
    (
        "sharpcli train --recipe keskar-sb --model mlp --epochs 1 --out runs/keskar",
        "The settings of a paper; options override them.",
    ),
)


def _listed(folder: str) -> str:
    return ", ".join(plugins.names(folder))


def _typed(how: Output) -> set[str]:
    """Return the settings that the command line gives, also by --task."""
    return {*how.given, *(("model", "data", "loss") if how.task else ())}


def _check_run(run: str, settings: TrainSettings) -> None:
    """Refuse a folder that cannot be continued."""
    if not settings.resume:
        raise SettingsError(
            f"'{run}' is given, but train takes a folder as an argument only with --resume.",
            "Give the folder of a new run with --out.",
        )
    if settings.out not in (None, run):
        raise SettingsError(f"The run to continue is {run}, but --out is {settings.out}.", "Give one of the two.")
    if not Path(run).expanduser().is_dir():
        raise InputError(f"There is no folder '{run}' to continue.", "Check the path, or start a new run with --out.")


HELP = f"""Train with small-batch, large-batch or full-batch updates, or by the recipe of a paper.

{chr(10).join(f"* {name}: {plugins.summary('training/modes', name)}" + chr(10) for name in plugins.names("training/modes"))}
Built-in models: {_listed("models/architectures")}. Data: {_listed("datasets/readers")}. Recipes: --list-recipes."""


@with_options(TrainSettings, plot=False)
def command(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="With --resume: the folder of the run to continue. It holds all settings."),
    ] = None,
    values: Any = None,
    how: Any = None,
) -> None:
    """Train with small-batch, large-batch or full-batch updates, or by the recipe of a paper."""

    def compute(settings: TrainSettings) -> Sequence[Any]:
        if settings.list_recipes:
            from sharpcli.analyses.train.recipes import recipes

            return [recipes()]
        from sharpcli.analyses.train import train
        from sharpcli.training.resuming import require_run

        if run is not None:
            _check_run(run, settings)
            require_run(Path(run).expanduser())
            settings = replace(settings, out=run)
        if settings.resume:  # Options on the command line must agree with those in the folder, also if they equal a default.
            return [train(**{name: getattr(settings, name) for name in {*_typed(how), "out"}})]
        return [train(settings)]

    answer(NAME, TrainSettings, values, compute, how)
