"""The fields that every result has in addition to its numbers: settings, provenance, time and warnings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sharpcli import progress
from sharpcli.deterministic import deterministic_kernels
from sharpcli.random_states import random_states_kept
from sharpcli.runtime import Runtime, provenance
from sharpcli.settings import SubjectSettings


class AnswerRecord:
    """The record of a running analysis."""

    def __init__(self, settings: SubjectSettings, warnings: list[str]) -> None:
        """Start the clock."""
        self._settings, self._warnings, self._started = settings, warnings, time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds since the start of this session."""
        return time.perf_counter() - self._started

    def fields(self, runtime: Runtime | None = None, *, earlier_seconds: float = 0.0) -> dict[str, Any]:
        """Return the fields that every `Result` has; its time includes `earlier_seconds` of interrupted sessions."""
        return {
            "settings": self._settings.to_dict(),
            "provenance": provenance(runtime),
            "seconds": earlier_seconds + self.seconds(),
            "warnings": tuple(dict.fromkeys(self._warnings)),
        }


@contextmanager
def recording(settings: SubjectSettings) -> Iterator[AnswerRecord]:
    """Record an analysis with all warnings inside the `with` block; restore the random states of the caller after the block.

    With `settings.deterministic`, torch uses deterministic kernels inside the block.
    """
    exact = deterministic_kernels() if settings.deterministic else nullcontext()
    with progress.gathering() as warnings, random_states_kept(), exact:
        yield AnswerRecord(settings, warnings)
