"""Convert an exception to one sentence, one hint and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sharpcli.errors import (
    IncompleteError,
    InputError,
    ProcessLostError,
    SharpcliError,
    described,
    first_line,
    is_out_of_memory,
    message_of,
    origin,
)

# Options that reduce the memory of an analysis or a run, the most effective first.
_SMALLER = ("memory", "chunk_size", "batch_size", "samples", "subspace", "points")
_INPUT = InputError.exit_code


@dataclass(frozen=True)
class Failure:
    """The error message, its hint and its table, and the exit code of the process."""

    message: str
    hint: str
    code: int
    details: tuple[str, ...] = ()


def failure(error: BaseException, command: str, values: dict[str, Any]) -> Failure:
    """Return the message, the hint and the exit code of an error.

    Args:
        error: The exception that a command has raised.
        command: The name of the command.
        values: The options of the command with their values.
    """
    if isinstance(error, IncompleteError):
        return failure(error.cause, command, values)
    if isinstance(error, ProcessLostError):
        return Failure(error.message, f"{error.hint} {_how_to_continue(error, values)}".strip(), error.exit_code)
    if isinstance(error, SharpcliError):
        return Failure(error.message, _with_option(error), error.exit_code, error.details)
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "number", signal.SIGINT)
        how = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
        return Failure(f"{how}.", _how_to_continue(error, values), 128 + number)
    if is_out_of_memory(error):
        return Failure("There is not enough memory.", _less_memory(values), _INPUT)
    if origin(error) is not None or isinstance(error, RecursionError):
        return Failure(
            f"The code of the model has failed: {described(error)}.",
            "Correct that code; --debug shows the traceback.",
            _INPUT,
        )
    if isinstance(error, OSError):
        return Failure(f"{error.strerror or first_line(error)}{_named(error)}.", _of_disk(error), _INPUT)
    if isinstance(error, RuntimeError) and "home directory" in message_of(error):
        return Failure("A path begins with ~ and the name of a user who does not exist.", "Check the path.", _INPUT)
    if isinstance(error, ValueError) and "null byte" in message_of(error):
        return Failure("A path contains a zero byte.", "Check the path.", _INPUT)
    if _raised_in(error) == "torch._logging._internal":
        return Failure(
            f"torch has refused a variable of the environment: {described(error)}.", "Correct or unset TORCH_LOGS.", 2
        )
    return Failure(f"Internal error: {described(error)}.", "Please report this error with the output of --debug.", 1)


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that has raised an error, or ""."""
    *_, last = [None, *traceback.walk_tb(error.__traceback__)]
    return "" if last is None else str(last[0].f_globals.get("__name__", ""))


def _with_option(error: SharpcliError) -> str:
    """Return the hint, followed by the option that applies it, in parentheses."""
    if not error.remedy:
        return error.hint
    name, _, value = error.remedy.partition("=")
    return f"{error.hint.removesuffix('.')} (--{name.replace('_', '-')} {value})."


def _how_to_continue(stopped: BaseException, values: dict[str, Any]) -> str:
    """Return the note that the interrupted command has added, else a sentence on whether its state was saved."""
    if notes := getattr(stopped, "__notes__", ()):
        return str(notes[0])
    state = values.get("state")
    if state and os.path.exists(os.path.expanduser(state)):
        return f"The state is saved in {state}: the same command continues from it."
    if "state" in values and not state:
        return "Nothing was saved. With --state an interrupted command can be continued."
    return "Nothing was written."


def _less_memory(values: Collection[str]) -> str:
    fitting = [f"--{name.replace('_', '-')}" for name in _SMALLER if name in values]
    return f"Use a smaller {' or '.join(fitting)}." if fitting else "Use a machine with more memory."


def _named(error: OSError) -> str:
    return f": {error.filename}" if error.filename is not None else ""


def _of_disk(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space on that disk."
    return "Choose a shorter name." if error.errno == errno.ENAMETOOLONG else "Check that path and its permissions."
