"""From whatever was raised to one sentence, one hint and an exit code."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sharpcli.errors import (
    IncompleteError,
    InputError,
    SharpcliError,
    described,
    first_line,
    is_out_of_memory,
    message_of,
    origin,
)

# Options that make an analysis or a run take less memory, the first that helps most.
_SMALLER = ("memory", "chunk_size", "batch_size", "samples", "subspace", "points")
_INPUT = InputError.exit_code


@dataclass(frozen=True)
class Failure:
    """What to tell the user, and the exit code of the process."""

    message: str
    hint: str
    code: int


def failure(error: BaseException, command: str, values: dict[str, Any]) -> Failure:
    """Say what an error means.

    Args:
        error: What a command has raised.
        command: Its name.
        values: The options that it has, with what was given for them.
    """
    if isinstance(error, IncompleteError):
        return failure(error.cause, command, values)
    if isinstance(error, SharpcliError):
        return Failure(error.message, _with_option(error), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "number", signal.SIGINT)
        how = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
        return Failure(f"{how}.", _how_to_go_on(error, values), 128 + number)
    if is_out_of_memory(error):
        return Failure("There is not enough memory for this.", _less_memory(values), _INPUT)
    if origin(error) is not None or isinstance(error, RecursionError):
        return Failure(
            f"The model's own code has failed: {described(error)}.",
            "Mend that code, or see its traceback with --debug.",
            _INPUT,
        )
    if isinstance(error, OSError):
        return Failure(f"{error.strerror or first_line(error)}{_named(error)}.", _of_disk(error), _INPUT)
    if isinstance(error, RuntimeError) and "home directory" in message_of(error):
        return Failure("A path begins with ~ and a name, but there is no such user.", "Check the path.", _INPUT)
    if isinstance(error, ValueError) and "null byte" in message_of(error):
        return Failure("A path has a zero byte in it.", "Check the path.", _INPUT)
    return Failure(f"Internal error: {described(error)}.", "Please report it with the output of --debug.", 1)


def _with_option(error: SharpcliError) -> str:
    """Return the hint with the option that sets what it asks for; no full stop follows the value, so it can be copied."""
    if not error.remedy:
        return error.hint
    name, _, value = error.remedy.partition("=")
    return f"{error.hint.removesuffix('.')}, as --{name.replace('_', '-')} {value} does."


def _how_to_go_on(stopped: KeyboardInterrupt, values: dict[str, Any]) -> str:
    """Return what the work itself has noted, else whether anything was kept."""
    if notes := getattr(stopped, "__notes__", ()):
        return str(notes[0])
    state = values.get("state")
    if state and os.path.exists(os.path.expanduser(state)):
        return f"What was done is kept in {state}: the same command goes on from there."
    if "state" in values and not state:
        return "Nothing was written. With --state the work can be gone on with."
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
