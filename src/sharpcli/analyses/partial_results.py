"""What comes after the main answer: where it fails, the answer is kept."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from sharpcli import progress
from sharpcli.errors import IncompleteError, SharpcliError, described, is_out_of_memory
from sharpcli.results import Result
from sharpcli.runtime import Runtime

_Part = TypeVar("_Part")


class OptionalParts:
    """Runs the parts of an answer one by one; what fails is left out with a warning, and told at the end."""

    def __init__(self, runtime: Runtime) -> None:
        """Begin with no failure."""
        self._runtime = runtime
        self._failed: BaseException | None = None

    def __call__(self, what: str, compute: Callable[[], _Part]) -> _Part | None:
        """Return what is computed, or None if that fails.

        Args:
            what: Its name, for the warning.
            compute: Called once.

        Raises:
            KeyboardInterrupt: Passed on.
        """
        try:
            return compute()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # A model may raise anything, also SystemExit.
            progress.warn(f"{what} is missing: {reason(error)}")
            self._failed = self._failed or error
            release_memory(error, self._runtime)
            return None

    def require_all(self, result: Result) -> None:
        """Raise IncompleteError, with the result, if a part has failed."""
        if self._failed is not None:
            raise IncompleteError([result], self._failed) from self._failed


def run_each(tasks: Sequence[Callable[[], _Part]], label: str = "") -> list[_Part]:
    """Return the results of several tasks; with a label it is shown which is worked on.

    Raises:
        IncompleteError: One has failed after others had ended; it holds their results.
    """
    results: list[_Part] = []
    for compute in progress.each(label, tasks) if label else tasks:
        try:
            results.append(compute())
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            more = error.results if isinstance(error, IncompleteError) else []
            cause = error.cause if isinstance(error, IncompleteError) else error
            if not (results or more):
                raise
            raise IncompleteError([*results, *more], cause, several=len(tasks) > 1) from error
    return results


def release_memory(error: BaseException, runtime: Runtime) -> None:
    """Free what the frames of an error hold: their tensors would take the memory of what comes next."""
    traceback.clear_frames(error.__traceback__)
    runtime.free_cached()


def reason(error: BaseException) -> str:
    """Return why something failed, as the end of a sentence."""
    if is_out_of_memory(error):
        return "there is not enough memory for it."
    return error.message if isinstance(error, SharpcliError) else f"{described(error)}."
