"""sharpcli surface"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import SurfaceSettings

NAME = "surface"
QUESTION = "What lies between?"
EXAMPLES = (
    (
        "sharpcli surface sample_checkpoints/sgd sample_checkpoints/largebatch "
        "sample_checkpoints/fullbatch --points 15 --samples 500 --plot surface.png",
        "The plane through three solutions.",
    ),
    (
        "sharpcli surface sample_checkpoints/sgd --axes eigen --points 11 --samples 500",
        "Around one solution, along the two sharpest directions.",
    ),
)


@with_options(SurfaceSettings, plot=True)
def command(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CKPT [B C]", help="One checkpoint or three; a run folder for --axes pca.")
    ],
    values: Any = None,
    how: Any = None,
) -> None:
    """Loss on a plane: around one checkpoint, through three checkpoints, or the principal plane of a run."""

    def compute(settings: SurfaceSettings) -> Sequence[Any]:
        from sharpcli.analyses.surface import surface

        return [surface(checkpoints, settings=settings)]

    answer(NAME, SurfaceSettings, values, compute, how)
