"""What can go wrong, in words a user can act on: one sentence, one hint, one exit code."""

from __future__ import annotations

import difflib
import math
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 200  # Characters of somebody else's error message.
# Top-level names of the packages that the command line stands on. Code of any other package is a user's.
_OWN = {"sharpcli", "torch", "torchvision", "numpy", "scipy", "safetensors", "matplotlib", "PIL", "rich", "typer", "click"}

# Of allocators on the CPU, on Linux and Windows, of memory maps, of shared libraries and of threads.
_NO_MEMORY = (
    "allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation", "failed to map segment",
    "start new thread",
)  # fmt: skip


class SharpcliError(Exception):
    """The root of every error that sharpcli raises on purpose; never raised itself.

    Args:
        message: One sentence that says what is wrong and names the offender.
        hint: One sentence that says what to do next.
        remedy: The setting that helps, such as "dtype=float64", where the hint names no option; the command line adds it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.remedy = remedy


class SettingsError(SharpcliError):
    """A setting is out of range, unknown, or clashes with another one (exit code 2)."""

    exit_code = 2


class InputError(SharpcliError):
    """A file cannot be read, or model, data and weights do not fit together (exit code 3)."""

    exit_code = 3


class NumericalError(SharpcliError):
    """Weights, loss, gradient or a product are not finite (exit code 4)."""

    exit_code = 4


class NotConvergedError(SharpcliError):
    """A result did not reach its tolerance and `--strict` was asked for (exit code 5)."""

    exit_code = 5


class IncompleteError(SharpcliError):
    """The answer was computed, but something else that was asked for failed: show `results`, then the error.

    Args:
        results: What was computed.
        cause: What failed afterwards; the exit code is its own, or 3.
        several: Whether several results were asked for.
    """

    def __init__(self, results: Sequence[Any], cause: BaseException, *, several: bool = False) -> None:
        known = cause if isinstance(cause, SharpcliError) else InputError(f"{described(cause)}.")
        super().__init__(known.message, known.hint, remedy=known.remedy)
        self.results, self.cause, self.several, self.exit_code = list(results), cause, several, known.exit_code


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end, as Ctrl-C does.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def loss_not_finite(loss: float) -> NumericalError:
    """Return the error for a loss or a gradient that is not finite."""
    if math.isfinite(loss):
        return NumericalError(
            f"The loss is {loss:.4g}, but its gradient is not finite.",
            "Look for a root, norm, logarithm or division at 0, also in the branch that torch.where does not take.",
        )
    return NumericalError("The loss is not finite.", "Check the weights and the data; a diverged run cannot be analysed.")


def closest(word: str, known: Iterable[str]) -> str:
    """Return a hint that lists the known words and names the one most like `word`."""
    words = sorted(known)
    guess, listed = best_guess(word, words), ", ".join(words)
    return f"Did you mean '{guess}'? Known: {listed}." if guess else f"Known: {listed}."


def best_guess(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`, if one is like it; capitals do not matter."""
    words = {one.lower(): one for one in known}
    guesses = difflib.get_close_matches(word.lower(), words, n=1)
    return words[guesses[0]] if guesses else None


def guessed(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint that names the known word most like `word`; for lists that are too long to be shown."""
    guess = best_guess(word, known)
    return f"Did you mean {guess}?" if guess else otherwise


def message_of(error: BaseException) -> str:
    """Return somebody else's error message; "" if its class, which may be a user's own, fails to tell it."""
    try:
        return str(error)
    except Exception:
        return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, of whichever device."""
    by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # The latter is torch's.
    return by_type or any(words in message_of(error) for words in _NO_MEMORY)


def first_line(error: BaseException) -> str:
    """Return the first line of somebody else's error message without its full stop, else the name of its type."""
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    return (lines[0].rstrip(".")[:_LONGEST] if lines else "") or type(error).__name__


def described(error: BaseException) -> str:
    """Return the type and the message of somebody else's error, and the file and line of a user's code if it is from there."""
    reason, kind, place = first_line(error), type(error).__name__, origin(error)
    text = kind if reason == kind else f"{kind}: {reason}"
    return f"{text} ({place})" if place else text


def origin(error: BaseException) -> str | None:
    """Return "FILE, line N" of the innermost frame that runs a user's code; None if an error did not pass through any."""
    location = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__") or "").partition(".")[0]
        if package and package not in _OWN and package not in sys.stdlib_module_names:
            location = f"{frame.f_code.co_filename}, line {line}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    return location
