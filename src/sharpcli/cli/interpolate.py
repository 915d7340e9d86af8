"""sharpcli interpolate"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import InterpolateSettings

NAME = "interpolate"
QUESTION = "What lies between?"
EXAMPLES = (
    (
        "sharpcli interpolate sample_checkpoints/sgd sample_checkpoints/fullbatch --plot path.png",
        "The losses on the straight line between two solutions, and the barrier.",
    ),
    (
        "sharpcli interpolate sample_checkpoints/sgd sample_checkpoints/fullbatch "
        "--path bezier --bezier-steps 100 --samples 1000",
        "A curve that is trained to stay low, and the straight line for comparison.",
    ),
    (
        "sharpcli interpolate sample_checkpoints/sgd sample_checkpoints/largebatch sample_checkpoints/fullbatch --samples 1000",
        "Every pair, and the table of barriers.",
    ),
)


@with_options(InterpolateSettings, plot=True)
def command(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="A B [C...]", help="Checkpoint files or run folders. Each pair is interpolated.")
    ],
    values: Any = None,
    how: Any = None,
) -> None:
    """Loss and accuracy along a path between two solutions, on training and test data, and the barrier."""

    def compute(settings: InterpolateSettings) -> Sequence[Any]:
        from sharpcli.analyses.interpolate import interpolate_all

        return interpolate_all(checkpoints, settings)

    answer(NAME, InterpolateSettings, values, compute, how, plural="paths")
