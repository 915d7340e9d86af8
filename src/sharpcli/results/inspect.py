"""Results of `inspect`, for a file and for the runs in a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpcli.results.base import Result, Subject


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a file; `passed` is None if the check could not be made."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class HessianCost:
    """What `hessian` with the `topk` largest eigenvalues will cost, estimated from a product on some of the samples.

    `vector_bytes` is the memory of the Lanczos vectors, `pass_bytes` that of the activations of one pass.
    """

    topk: int
    products: int
    seconds: float
    vector_bytes: int
    pass_bytes: int


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """The state of a run, "finished", "interrupted" or "diverged", also as a sentence.

    `step` is the number of updates, or the update at which the run diverged. `checkpoint` is the path of its weights after
    `checkpoint_step` updates, and `go_on` the command that continues the run; each is None if there is none.
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


@dataclass(frozen=True, kw_only=True, repr=False)
class RunsResult(Result):
    """The runs in a folder, or one that has no final weights."""

    _headline = ("folder", "rows")
    folder: str
    rows: tuple[RunRow, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return one row per run."""
        return [asdict(row) for row in self.rows]


@dataclass(frozen=True, kw_only=True, repr=False)
class InspectResult(Result):
    """The contents of a file, and whether it can be analysed.

    `known_by` says how parameters were separated from buffers: "model", "record", or "names and values", which is a guess.
    `ties` maps further names of tied parameters to the name that is counted; `left_out` are entries of the file
    that are not used, such as those that training adds. `run` is the state of the run if a folder was given; None for a file.
    `cost` is None if the file cannot be analysed.
    """

    _headline = ("checkpoint", "num_parameters", "analysable")
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
    cost: HessianCost | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return one row per tensor."""
        return [{"name": name, "shape": shape} for name, shape in self.tensors]
