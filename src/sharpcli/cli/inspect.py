"""sharpcli inspect"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import InspectSettings

NAME = "inspect"
QUESTION = "Look inside"
EXAMPLES = (
    ("sharpcli inspect sample_checkpoints/sgd", "What a file contains, and what an analysis of it would use and cost."),
    ("sharpcli inspect sample_checkpoints/sgd --expect test_accuracy=0.846", "Exits with 3 if the accuracy is another one."),
)


@with_options(InspectSettings, plot=False)
def command(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files or run folders.")],
    values: Any = None,
    how: Any = None,
) -> None:
    """Contents of a checkpoint, and whether it can be analysed."""

    def compute(settings: InspectSettings) -> Iterable[Any]:
        from sharpcli.analyses.inspect import inspect
        from sharpcli.loading import each_checkpoint

        return (inspect(path, settings) for path in each_checkpoint(checkpoints))

    answer(NAME, InspectSettings, values, compute, how, require_analysable=True)
