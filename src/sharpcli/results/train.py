"""What training answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sharpcli.results.base import Result


@dataclass(frozen=True, kw_only=True)
class TrainRow:
    """What one run ended with, or an average of its weights (`average` names its kind, and is None for the last weights)."""

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
    test_loss: float
    test_accuracy: float | None
    gap: float
    stopped_by: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainResult(Result):
    """What was trained, one row a run, and what to type next; `init_sha256` is None if runs began at different weights."""

    run: str
    init_sha256: str | None
    num_parameters: int
    rows: tuple[TrainRow, ...]
    next_commands: tuple[str, ...]
    device: str = field(default="cpu")


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """A recipe of a paper: what it sets, as one would type it, and where that comes from.

    `changes` is the same in short, where it extends another recipe.
    """

    name: str
    summary: str
    sets: str
    changes: str
    source: str
    networks: str
    note: str


@dataclass(frozen=True, kw_only=True)
class RecipesResult(Result):
    """Every recipe that `train` knows."""

    rows: tuple[RecipeRow, ...]
