"""sharpcli hessian"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.errors import SettingsError
from sharpcli.settings import HessianSettings

NAME = "hessian"
QUESTION = "Is it sharp?"
EXAMPLES = (
    (
        "sharpcli hessian sample_checkpoints/sgd --topk 20",
        "The twenty largest eigenvalues, each with an interval and a verdict.",
    ),
    (
        "sharpcli hessian sample_checkpoints/sgd --samples 1000 --trace --density --plot spectrum.png",
        "Trace and density on a part of the data, with a picture.",
    ),
    (
        "sharpcli hessian sample_checkpoints/sgd sample_checkpoints/fullbatch --topk 3 --json",
        "Two checkpoints as one JSON document.",
    ),
)


@with_options(HessianSettings, plot=True)
def command(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files or run folders.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 5 if an eigenvalue is not certified.")] = False,
    values: Any = None,
    how: Any = None,
) -> None:
    """Eigenvalues of the loss Hessian with residual, interval and verdict; on request trace, spectral density and layers."""

    def compute(settings: HessianSettings) -> Sequence[Any]:
        if how.plot and not (settings.topk or settings.bottomk or settings.has_density()):
            raise SettingsError("There is nothing to draw.", "Add --density, or compute eigenvalues with --topk.")
        from sharpcli.analyses.hessian import hessian_all

        return hessian_all(checkpoints, settings=settings)

    answer(NAME, HessianSettings, values, compute, how, require_converged=strict)
