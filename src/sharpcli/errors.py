"""What can go wrong, in words a user can act on: one sentence, one hint, one exit code."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

_LONGEST = 200  # Characters of somebody else's error message.


class SharpcliError(Exception):
    """The root of every error that sharpcli raises on purpose; never raised itself.

    Args:
        message: One sentence that says what is wrong and names the offender.
        hint: One sentence that says what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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


def first_line(error: BaseException) -> str:
    """Return the first line of somebody else's error message without its full stop, else the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0].rstrip(".")[:_LONGEST] if lines else "") or type(error).__name__
