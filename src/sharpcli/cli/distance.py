"""sharpcli distance"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import DistanceSettings

NAME = "distance"
QUESTION = "How far has it gone?"
EXAMPLES = (
    ("sharpcli distance sample_checkpoints/fullbatch --per-layer", "How far each tensor is from its initial values."),
    ("sharpcli distance sample_checkpoints/sgd --plot distance.png", "Along the run, with fits of log t and of a power of t."),
)


@with_options(DistanceSettings, plot=True)
def command(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files, or run folders with their saved steps.")
    ],
    values: Any = None,
    how: Any = None,
) -> None:
    """Distance of the weights from their initialization: in total, per layer and along a run.

    Only weights are read. In a file that sharpcli did not write, --model separates parameters from buffers; the options for
    data are used only to build that model. The options for loss and samples have no effect.
    """

    def compute(settings: DistanceSettings) -> Iterable[Any]:
        from sharpcli.analyses.distance import distance
        from sharpcli.loading import each_checkpoint

        return (distance(path, settings=settings) for path in each_checkpoint(checkpoints))

    answer(NAME, DistanceSettings, values, compute, how)
