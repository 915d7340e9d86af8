"""Errors of the command line parser, written as all other errors: one sentence, one hint, exit code 2."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sharpcli.cli import help_page
from sharpcli.errors import SettingsError, best_guess

# Typer includes a copy of click, or uses the installed one.
_USAGE: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_KINDS = {
    "int": "an integer",
    "integer": "an integer",
    "float": "a number",
    "boolean": "yes or no",
    "bool": "yes or no",
}


class Command(TyperCommand):
    """A command whose help has groups of options and examples."""

    examples: Sequence[tuple[str, str]] = ()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_page.of_command(ctx, self, self.examples, shutil.get_terminal_size().columns))


def with_examples(examples: Sequence[tuple[str, str]]) -> type[Command]:
    """Return the class of a command with these examples: command lines, each with a sentence about it."""
    return type("Command", (Command,), {"examples": examples})


class Commands(TyperGroup):
    """The group of all commands; it reports usage errors in the form of all other errors."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_page.of_group(ctx, self, shutil.get_terminal_size().columns))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line, and end the process unless `standalone_mode` is False."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except _USAGE as error:
            if not standalone_mode:
                raise
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()  # type: ignore[attr-defined]
            else:
                from sharpcli.render.console import write_error

                known = _settings_error(error, self, words)
                write_error(sys.stderr, known.message, known.hint)
            sys.exit(SettingsError.exit_code)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def _settings_error(error: Any, commands: Commands, words: Sequence[str]) -> SettingsError:
    """Return an error of the parser as an error of sharpcli."""
    name = next((word for word in words if word in commands.commands), "")
    command: Any = commands.commands[name] if name else commands
    line = f"sharpcli {name}".strip()
    kind, message = type(error).__name__, str(error.message)
    options = [flag for option in command.params for flag in (*option.opts, *option.secondary_opts) if flag.startswith("--")]
    if kind == "NoSuchOption":
        names = {flag.lstrip("-") for flag in options}
        return SettingsError(
            f"There is no option {error.option_name}.", _guess(error.option_name.lstrip("-"), names, f"'{line} --help'", "--")
        )
    if kind == "MissingParameter" and error.param is not None:
        return SettingsError(f"{_display_name(error.param)} is missing.", f"Write it like '{_example(line, command)}'.")
    if kind == "BadOptionUsage":
        return _misused(error.option_name, message, command)
    if kind == "BadParameter" and error.param is not None:
        parts = re.fullmatch(r"'(.*)' is not a valid (\w+)\.?", message, re.DOTALL)
        reason = f"is '{parts[1]}', which is not {_KINDS.get(parts[2], parts[2])}" if parts else f"cannot be read: {message}"
        return SettingsError(f"{_display_name(error.param)} {reason}.", f"See '{line} --help' for the values that it takes.")
    if unknown := re.match(r"No such command '(.*?)'", message):
        return SettingsError(
            f"There is no command called '{unknown[1]}'.", _guess(unknown[1], commands.commands, "'sharpcli --help'")
        )
    if extra := re.match(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", message):
        return SettingsError(
            f"Too many arguments for {name or 'sharpcli'}: '{extra[1]}'.",
            f"Write it like '{_example(line, command)}'.",
        )
    return SettingsError(message, f"See '{line} --help'.")


def _guess(word: str, known: Iterable[str], where: str, dashes: str = "") -> str:
    guess = best_guess(word, known)
    listing = f"See {where} for {'all options' if dashes else 'all commands'}."
    return f"Did you mean {dashes}{guess}? {listing}" if guess else listing


def _misused(flag: str, message: str, command: Any) -> SettingsError:
    if "not take a value" in message:
        return SettingsError(f"{flag} takes no value.", f"Write {flag} alone, or leave it out.")
    metavar = next((option.metavar for option in command.params if flag in option.opts), None) or "VALUE"
    return SettingsError(f"{flag} needs a value.", f"Write it like {flag} {metavar}.")


def _display_name(parameter: Any) -> str:
    return str(
        parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.human_readable_name
    )


def _example(line: str, command: Any) -> str:
    places = [_display_name(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    return " ".join([line, *places, "[OPTIONS]"])
