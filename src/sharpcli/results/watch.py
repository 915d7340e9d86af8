"""Results of `watch`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpcli.results.base import Result, Subject
from sharpcli.results.sharpness import Reading


@dataclass(frozen=True, kw_only=True)
class WatchRow:
    """The row of one saved step; a number is None if it was not requested or could not be measured (`notes` has the reason).

    `learning_rate` is that of the last update before the step. `reused` rows were taken from --state.
    """

    run: str
    checkpoint: Subject
    step: int
    learning_rate: float | None
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    lambda_max: float | None = None
    lambda_max_residual: float | None = None
    phi: float | None = None
    distance: float | None = None
    readings: tuple[Reading, ...] = ()
    notes: tuple[str, ...] = ()
    reused: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class WatchResult(Result):
    """One row for each run and saved step, in order."""

    _headline = ("rows",)
    rows: tuple[WatchRow, ...]
    epsilon: float
    loss_function: str
    loss_unit: str
    batch_norm: str

    def records(self) -> list[dict[str, Any]]:
        """Return one row per saved step."""
        rows = []
        for row in self.rows:
            numbers = {name: value for name, value in asdict(row).items() if name not in ("checkpoint", "readings", "notes")}
            numbers |= {reading.label: reading.value for reading in row.readings}
            rows.append({"path": row.checkpoint.path, **numbers})
        return rows
