"""Errors with a message for the user: one sentence, one hint and one exit code."""

from __future__ import annotations

import difflib
import math
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 200  # Characters that are shown of the error message of another library.
# Packages that sharpcli uses. Code outside of these and of the standard library counts as code of the user.
_OWN = {"sharpcli", "torch", "torchvision", "numpy", "scipy", "safetensors", "matplotlib", "PIL", "rich", "typer", "click"}

# An option in a message, perhaps with its value; or a command, which stays as it is.
_OPTION = re.compile(
    r"('?sharpcli [a-z]+[^'\n]*'?)|(?<![\w-])--(no-)?(?!help\b)([a-z][a-z0-9]*(?:-[a-z0-9]+)*)"
    r"(?: (-?\d[\w+-]*(?:\.\d[\w+-]*)?|[A-Z][A-Z]+\b)"
    r"| (float32|float64|auto|cpu|recompute|eval|batch|random|both|off|[a-z_]+=\w+)\b)?"
)

# Parts of messages when memory runs out: of CPU allocators on Linux and Windows, memory maps, shared libraries and threads.
_NO_MEMORY = (
    "allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation", "failed to map segment",
    "start new thread",
)  # fmt: skip


class SharpcliError(Exception):
    """Base class of all errors that sharpcli raises on purpose; it is never raised itself.

    `message` and `hint` name options as the command line does; `str(error)` names them as arguments of Python.

    Args:
        message: One sentence that says what is wrong, and in which file, option or value.
        hint: One sentence that says what to do next.
        remedy: A setting that helps, such as "dtype=float64", if the hint names no option; the command line adds it.
        details: Lines of a short table below the message.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, remedy: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.remedy = remedy
        self.details = tuple(details)

        if hint:
            self.add_note(f"hint: {in_python(hint)}")  # Shown below a traceback.

    def __str__(self) -> str:
        return in_python("\n".join([self.message, *self.details]))

    def sentences(self) -> str:
        """Return message, details and hint as one text."""
        return " ".join(
            part for part in (self.message, "; ".join(" ".join(line.split()) for line in self.details), self.hint) if part
        )


class SettingsError(SharpcliError):
    """A setting is out of range, unknown, or contradicts another one (exit code 2)."""

    exit_code = 2


class InputError(SharpcliError):
    """A file cannot be read, or model, data and weights do not fit together (exit code 3)."""

    exit_code = 3


class CodeNeededError(InputError):
    """A file can be opened only by running code that it contains."""


class NumericalError(SharpcliError):
    """Weights, loss, gradient or a product are not finite (exit code 4)."""

    exit_code = 4


class NotConvergedError(SharpcliError):
    """A result did not reach its tolerance, and `--strict` was given (exit code 5)."""

    exit_code = 5


class ProcessLostError(SharpcliError):
    """Another process of a run on several devices has ended or has failed (exit code 6)."""

    exit_code = 6


class IncompleteError(SharpcliError):
    """A part of the work failed after other results were complete: show `results`, then the error.

    Args:
        results: The complete results.
        cause: The error of the part that failed. Its exit code is used, or 3 if it is not a `SharpcliError`.
        several: Whether several results were requested.
    """

    def __init__(self, results: Sequence[Any], cause: BaseException, *, several: bool = False) -> None:
        known = cause if isinstance(cause, SharpcliError) else InputError(f"{described(cause)}.")
        super().__init__(known.message, known.hint, remedy=known.remedy)
        self.results, self.cause, self.several, self.exit_code = list(results), cause, several, known.exit_code


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end, as Ctrl-C does.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def loss_not_finite(loss: float) -> NumericalError:
    """Return the error for a loss that is not finite, or for a finite loss whose gradient is not."""
    if math.isfinite(loss):
        return NumericalError(
            f"The loss is {loss:.4g}, but its gradient is not finite.",
            "Look for a root, norm, logarithm or division at 0, also in the branch that torch.where does not select.",
        )
    return NumericalError("The loss is not finite.", "Check the weights and the data; a diverged run cannot be analysed.")


def closest(word: str, known: Iterable[str]) -> str:
    """Return a hint that lists the known words, and names the one most similar to `word` if there is one."""
    words = sorted(known)
    guess, listed = best_guess(word, words), ", ".join(words)
    return f"Did you mean '{guess}'? Known: {listed}." if guess else f"Known: {listed}."


def best_guess(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to `word`, ignoring case; None if no word is similar."""
    words = {one.lower(): one for one in known}
    guesses = difflib.get_close_matches(word.lower(), words, n=1)
    return words[guesses[0]] if guesses else None


def guessed(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint that names the known word most similar to `word`, or `otherwise`; for lists that are too long to show."""
    guess = best_guess(word, known)
    return f"Did you mean {guess}?" if guess else otherwise


def in_python(text: str) -> str:
    """Return a message with options named as arguments of Python: topk=1 for --topk 1; commands stay as they are."""

    def argument(found: re.Match[str]) -> str:
        command, negated, name, value, word = found.groups()
        if command:
            return str(command)
        written = f"={value}" if value else f'="{word}"' if word else "=False" if negated else ""
        return name.replace("-", "_") + written

    return _OPTION.sub(argument, text)


def message_of(error: BaseException) -> str:
    """Return the message of an error; "" if its class, which may be of a user's code, raises an error itself."""
    try:
        return str(error)
    except Exception:
        return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, on any device."""
    by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # The latter is torch's.
    return by_type or any(words in message_of(error) for words in _NO_MEMORY)


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error message, without its full stop; without a message, the name of its type."""
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    return (lines[0].rstrip(".")[:_LONGEST] if lines else "") or type(error).__name__


def described(error: BaseException) -> str:
    """Return the type and the message of an error, and the file and line if it comes from code of the user."""
    reason, kind, place = first_line(error), type(error).__name__, origin(error)
    text = kind if reason == kind else f"{kind}: {reason}"
    return f"{text} ({place})" if place else text


def origin(error: BaseException) -> str | None:
    """Return "FILE, line N" of a SyntaxError, else of the innermost frame in code of the user; None without such a frame."""
    location = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__") or "").partition(".")[0]
        if package and package not in _OWN and package not in sys.stdlib_module_names:
            location = f"{frame.f_code.co_filename}, line {line}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    return location
