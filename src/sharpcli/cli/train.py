"""sharpcli train"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpcli import plugins
from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import TrainSettings

NAME = "train"


def _listed(folder: str) -> str:
    return ", ".join(plugins.names(folder))


HELP = f"""Train small-batch, large-batch or full-batch, by hand or by the recipe of a paper.

{chr(10).join(f"* {name}: {plugins.summary('training/modes', name)}" + chr(10) for name in plugins.names("training/modes"))}
Built-in models: {_listed("models")}. Data: {_listed("datasets")}. Recipes: --list-recipes."""


@with_options(TrainSettings, plot=False)
def command(values: Any = None, how: Any = None) -> None:
    """Train small-batch, large-batch or full-batch, by hand or by the recipe of a paper."""

    def compute(settings: TrainSettings) -> Sequence[Any]:
        if settings.list_recipes:
            from sharpcli.analyses.recipes import recipes

            return [recipes()]
        from sharpcli.analyses.train import train

        return [train(settings)]

    answer(NAME, TrainSettings, values, compute, how)
