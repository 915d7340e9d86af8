"""sharpcli sharpness"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import SharpnessSettings

NAME = "sharpness"


@with_options(SharpnessSettings, plot=False)
def command(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files or run folders.")],
    values: Any = None,
    how: Any = None,
) -> None:
    """Keskar's ε-sharpness φ, in full space and in a random subspace."""

    def compute(settings: SharpnessSettings) -> Sequence[Any]:
        from sharpcli.analyses.sharpness import sharpness

        return [sharpness(path, settings) for path in checkpoints]

    answer(NAME, SharpnessSettings, values, compute, how)
