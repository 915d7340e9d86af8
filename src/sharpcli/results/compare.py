"""Results of `compare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpcli.results.base import Result, Subject
from sharpcli.results.sharpness import Reading


@dataclass(frozen=True, kw_only=True)
class CompareRow:
    """The row of one checkpoint; a number is None if it was not requested or could not be measured (`notes` has the reason)."""

    checkpoint: Subject
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    gap: float
    gap_standard_error: float
    accuracy_gap: float | None
    accuracy_gap_standard_error: float | None
    lambda_max: float | None = None
    lambda_max_residual: float | None = None
    phi: float | None = None
    distance: float | None = None
    batch_size: int | None = None
    updates: int | None = None
    loss_function: str = "ce"
    loss_unit: str = ""
    terms_per_sample: float = 1.0
    output: str | None = None
    preprocessing: str = ""
    readings: tuple[Reading, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's τ of a measure with the generalization gap over some checkpoints, and the p-value of independence."""

    measure: str
    tau: float
    p_value: float
    checkpoints: int


@dataclass(frozen=True, kw_only=True, repr=False)
class CompareResult(Result):
    """One row per checkpoint; the numbers of samples are None if they differ between rows.

    `correlations` are given for five checkpoints or more.
    """

    _headline = ("rows",)
    rows: tuple[CompareRow, ...]
    epsilon: float
    num_train: int | None
    num_test: int | None
    correlations: tuple[RankCorrelation, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Return one row per checkpoint; `label` and `path` name it."""
        rows = []
        for row in self.rows:
            numbers = {name: value for name, value in asdict(row).items() if name not in ("checkpoint", "readings")}
            numbers |= {reading.label: reading.value for reading in row.readings}
            rows.append({"label": row.checkpoint.label, "path": row.checkpoint.path, **numbers})
        return rows
