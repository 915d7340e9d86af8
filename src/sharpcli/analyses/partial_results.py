"""Partial results: if a later part of an analysis fails, the parts that are complete are returned."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from sharpcli import processes, progress
from sharpcli.errors import IncompleteError, SharpcliError, described, is_out_of_memory
from sharpcli.results import Result
from sharpcli.runtime import Runtime

_Part = TypeVar("_Part")


class OptionalParts:
    """Runs the optional parts of a result one by one; a part that fails is left out with a warning, and reported at the end."""

    def __init__(self, runtime: Runtime) -> None:
        """Start without a failure."""
        self._runtime = runtime
        self._failed: BaseException | None = None

    def __call__(self, what: str, compute: Callable[[], _Part]) -> _Part | None:
        """Return the result of a computation, or None if it fails.

        Args:
            what: Name of the result, for the warning.
            compute: The computation; called once.

        Raises:
            KeyboardInterrupt: The user has stopped the computation.
        """
        try:
            return compute()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # A model may raise any error, also SystemExit.
            progress.warn(f"{what} is missing: {reason(error)}")
            self._failed = self._failed or error
            processes.current().abandon(reason(error))
            release_memory(error, self._runtime)
            return None

    def require_all(self, result: Result) -> None:
        """Raise an error if a part has failed.

        Raises:
            IncompleteError: A part has failed; the error holds the result without this part.
        """
        if self._failed is not None:
            raise IncompleteError([result], self._failed) from self._failed


def run_each(tasks: Sequence[Callable[[], _Part]], label: str = "") -> list[_Part]:
    """Return the results of several tasks; with a label, the progress shows the current task.

    Raises:
        IncompleteError: A task has failed after others were complete; the error holds their results.
        BaseException: The error of the first task, unchanged, if no result is complete.
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
            processes.current().abandon(reason(error))
            if not (results or more):
                raise
            raise IncompleteError([*results, *more], cause, several=len(tasks) > 1) from error
    return results


def release_memory(error: BaseException, runtime: Runtime) -> None:
    """Free the local variables in the frames of an error: their tensors take memory that later parts need."""
    traceback.clear_frames(error.__traceback__)
    runtime.free_cached()


def reason(error: BaseException) -> str:
    """Return the reason for a failure, as the end of a sentence."""
    if is_out_of_memory(error):
        return "there is not enough memory for it."
    return error.message if isinstance(error, SharpcliError) else f"{described(error)}."
