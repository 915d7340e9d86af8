"""The command line: which commands there are. Nothing here loads torch."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpcli import __version__
from sharpcli.cli import compare, distance, hessian, inspect, interpolate, reparam, sharpness, surface, train
from sharpcli.cli.usage import Commands, OneCommand

app = typer.Typer(
    name="sharpcli",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (train, hessian, sharpness, interpolate, distance, compare, inspect, reparam, surface):
    app.command(name=_command.NAME, cls=OneCommand, help=getattr(_command, "HELP", None))(_command.command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sharpcli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Is this minimum sharp, and does that explain how it generalizes?

    Train checkpoints, or take your own, and get numbers that can be trusted.
    """


def main() -> None:
    """Run the command line."""
    app()
