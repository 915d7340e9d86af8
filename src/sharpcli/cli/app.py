"""The command line and its list of commands. This module does not import torch."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpcli import __version__
from sharpcli.cli import compare, distance, doctor, hessian, inspect, interpolate, reparam, sharpness, surface, train, watch
from sharpcli.cli.usage import Commands, with_examples

app = typer.Typer(
    name="sharpcli",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (hessian, sharpness, compare, watch, interpolate, surface, distance, train, inspect, reparam, doctor):
    app.command(
        name=_command.NAME,
        cls=with_examples(_command.EXAMPLES),
        help=getattr(_command, "HELP", None),
        rich_help_panel=_command.QUESTION,
    )(_command.command)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"sharpcli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how sharp the minima of neural networks are, and compare sharpness with generalization.

    Train checkpoints or use your own. Eigenvalues have an interval and a verdict, estimates a confidence interval.
    """


def main() -> None:
    """Run the command line."""
    app()
