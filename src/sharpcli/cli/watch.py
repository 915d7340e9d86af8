"""sharpcli watch"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import WatchSettings

NAME = "watch"
QUESTION = "Is it sharp?"
EXAMPLES = (
    (
        "sharpcli watch sample_checkpoints/sgd sample_checkpoints/fullbatch --samples 1000 --plot watch.png",
        "λmax beside losses and learning rate. These runs kept their first and last weights only.",
    ),
    (
        "sharpcli watch sample_checkpoints/sgd --measure gradient-norm --metrics distance --state watched",
        "A measure by name. Started again, it goes on where it stopped.",
    ),
)


@with_options(WatchSettings, plot=True)
def command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders, with saved steps if you trained with --save-every N.")
    ],
    values: Any = None,
    how: Any = None,
) -> None:
    """Losses, λmax and any measure of sharpness along runs: one row for each saved step, the first and last at least."""

    def compute(settings: WatchSettings) -> Sequence[Any]:
        from sharpcli.analyses.watch import watch

        return [watch(runs, settings=settings)]

    answer(NAME, WatchSettings, values, compute, how)
