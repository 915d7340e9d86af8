"""What `inspect` answers, of a file and of the runs in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sharpcli.results.base import Result, Subject


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question about a file and its answer; `passed` is None where it could not be asked."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What has become of a run: "finished", "interrupted" or "diverged", in a sentence too.

    `step` counts the updates that were taken, or says at which it diverged. `checkpoint` is what to name for its weights, as
    they are after `checkpoint_step` updates, and `go_on` the command that goes on with it; None where there is none.
    """

    folder: str
    state: str
    step: int | None
    steps: int | None
    stopped_by: str | None
    sentence: str
    checkpoint: str | None
    checkpoint_step: int | None
    go_on: str | None


@dataclass(frozen=True, kw_only=True)
class RunsResult(Result):
    """The runs in a folder, or one that has no final weights."""

    folder: str
    rows: tuple[RunRow, ...]


@dataclass(frozen=True, kw_only=True)
class InspectResult(Result):
    """What is in a file and whether it can be analysed.

    `known_by` says what told parameters from buffers: "model", "record", or "names and values", which is a guess. `ties`
    are further names of parameters, each with the one that it is counted under; `left_out` is what no model takes. `run`
    tells of the run whose folder was named; None for a file.
    """

    checkpoint: Subject
    container: str
    num_tensors: int
    num_parameters: int
    known_by: str
    ties: dict[str, str]
    buffers: tuple[str, ...]
    left_out: tuple[str, ...]
    dtypes: tuple[str, ...]
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    metadata: dict[str, Any]
    checks: tuple[Check, ...]
    analysable: bool
    run: RunRow | None = None
