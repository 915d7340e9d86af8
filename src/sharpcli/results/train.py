"""Results of `train`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sharpcli.results.base import Result


@dataclass(frozen=True, kw_only=True)
class TrainRow:
    """The end of one run, or an average of its weights (`average` names its kind; it is None for the last weights).

    Without a test split `test_loss`, `test_accuracy` and `gap` are None.
    """

    name: str
    mode: str
    recipe: str | None
    average: str | None
    folder: str
    checkpoint: str
    updates: int
    epochs: float
    batch_size: int
    learning_rate: float
    seed: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    gap: float | None
    stopped_by: str
    seconds: float


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainResult(Result):
    """One row per run, and the next commands; `init_sha256` is None if the runs started from different weights."""

    _headline = ("run", "rows")
    run: str
    init_sha256: str | None
    num_parameters: int
    rows: tuple[TrainRow, ...]
    next_commands: tuple[str, ...]
    device: str = field(default="cpu")
    loss_unit: str = ""
    terms_per_sample: float = 1.0

    def records(self) -> list[dict[str, Any]]:
        """Return one row per run."""
        return [asdict(row) for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """A recipe of a paper: its settings as command line options, and its source.

    `changes` is the same in short, relative to the recipe that it extends.
    """

    name: str
    summary: str
    sets: str
    changes: str
    source: str
    networks: str
    note: str


@dataclass(frozen=True, kw_only=True, repr=False)
class RecipesResult(Result):
    """All recipes of `train`."""

    _headline = ("rows",)
    rows: tuple[RecipeRow, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return one row per recipe."""
        return [asdict(row) for row in self.rows]
