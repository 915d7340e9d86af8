"""sharpcli compare"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import CompareSettings

NAME = "compare"
QUESTION = "Is it sharp?"
EXAMPLES = (
    (
        "sharpcli compare sample_checkpoints/sgd sample_checkpoints/largebatch sample_checkpoints/fullbatch --samples 1000",
        "Losses, gap, λmax, φ and distance, one row for each checkpoint.",
    ),
    (
        "sharpcli compare sample_checkpoints/sgd sample_checkpoints/fullbatch --metrics hessian,distance --plot comparison.png",
        "Without φ, which takes longest, and as a picture.",
    ),
)


@with_options(CompareSettings, plot=True)
def command(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files or run folders.")],
    values: Any = None,
    how: Any = None,
) -> None:
    """One row per checkpoint: losses, generalization gap, λmax, φ, distance from initialization."""

    def compute(settings: CompareSettings) -> Sequence[Any]:
        from sharpcli.analyses.compare import compare

        return [compare(checkpoints, settings=settings)]

    answer(NAME, CompareSettings, values, compute, how)
