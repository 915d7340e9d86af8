"""sharpcli hessian"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import HessianSettings

NAME = "hessian"


@with_options(HessianSettings, plot=True)
def command(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files or run folders.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 5 if an eigenvalue has not converged.")] = False,
    values: Any = None,
    how: Any = None,
) -> None:
    """Largest Hessian eigenvalues of the full loss, each with its measured residual."""

    def compute(settings: HessianSettings) -> Sequence[Any]:
        from sharpcli.analyses.hessian import hessian

        return [hessian(path, settings) for path in checkpoints]

    answer(NAME, HessianSettings, values, compute, how, require_converged=strict)
