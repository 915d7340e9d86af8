"""sharpcli reparam"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.places import check_place
from sharpcli.cli.running import answer
from sharpcli.settings import ReparamSettings

NAME = "reparam"
QUESTION = "Look inside"
EXAMPLES = (
    (
        "sharpcli reparam sample_checkpoints/sgd same.pt --layer 1 --factor 3",
        "The same function with other weights: which measures change?",
    ),
    (
        "sharpcli reparam sample_checkpoints/sgd louder.pt --logits --factor 2",
        "Logits twice as large: predictions stay the same, the loss does not.",
    ),
)


@with_options(ReparamSettings, plot=False)
def command(
    source: Annotated[str, typer.Argument(metavar="IN", help="Checkpoint file or run folder.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="File to write. It must not exist.")],
    values: Any = None,
    how: Any = None,
) -> None:
    """Change weights of a checkpoint without changing its function, to test which measures are invariant."""

    def compute(settings: ReparamSettings) -> Sequence[Any]:
        from sharpcli.analyses.reparam import reparam

        check_place(Path(target))
        return [reparam(source, target, settings)]

    answer(NAME, ReparamSettings, values, compute, how)
