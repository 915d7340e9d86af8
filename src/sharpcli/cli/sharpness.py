"""sharpcli sharpness"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.errors import SettingsError
from sharpcli.settings import SharpnessSettings

NAME = "sharpness"
QUESTION = "Is it sharp?"
EXAMPLES = (
    ("sharpcli sharpness sample_checkpoints/sgd --samples 1000", "Keskar's φ in full space and in random subspaces."),
    (
        "sharpcli sharpness sample_checkpoints/sgd --samples 1000 --measure worst-case:rho=0.05",
        "Another measure, with an option of its own.",
    ),
    ("sharpcli sharpness --list", "All measures, their invariances, and when each one misleads."),
)


@with_options(SharpnessSettings, plot=True)
def command(
    checkpoints: Annotated[list[str] | None, typer.Argument(metavar="CKPT...", help="Checkpoint files or run folders.")] = None,
    values: Any = None,
    how: Any = None,
) -> None:
    """Sharpness: Keskar's φ in full space and in random subspaces, or another measure (see --measure and --list)."""

    def compute(settings: SharpnessSettings) -> Iterable[Any]:
        if settings.list:
            if how.plot:
                raise SettingsError("A list of measures cannot be drawn.", "Leave --plot or --list out.")
            from sharpcli.analyses.sharpness.listing import measures

            return [measures()]
        from sharpcli.analyses.sharpness import sharpness
        from sharpcli.loading import each_checkpoint

        if not checkpoints:
            raise SettingsError("No checkpoint is named.", "Name one: sharpcli sharpness CKPT.")
        return (sharpness(path, settings=settings) for path in each_checkpoint(checkpoints))

    answer(NAME, SharpnessSettings, values, compute, how)
