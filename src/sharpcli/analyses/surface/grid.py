"""The grid of a surface: evaluated from coarse to fine, and saved in a file during the work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli import files, progress
from sharpcli.saved_state import SavedState

_KEEP_SECONDS = 1.0  # Seconds between saves; if the process is killed, at most the points of this time are lost.

Grid = NDArray[numpy.float64]
Done = NDArray[numpy.bool_]


def fill(loss: Callable[[float, float], float], alphas: Sequence[float], betas: Sequence[float], kept: SavedGrid) -> Grid:
    """Evaluate a function on a grid, coarse points first; return its values, shape (rows β, columns α), float64.

    Every point is evaluated independently of the other points.

    Args:
        loss: Function of (α, β).
        alphas: Coordinates of the columns.
        betas: Coordinates of the rows.
        kept: File of the points that are already evaluated.

    Raises:
        InputError: The file cannot be read or written.
        SettingsError: The file contains a surface with other settings.
    """
    losses, done = kept.restore((len(betas), len(alphas)))
    kept.keep(losses, done)  # If the file cannot be written, this fails before the work.
    saved = time.monotonic()
    with progress.task("surface", total=losses.size, units="points", done=int(done.sum())) as shown:
        try:
            for row, column in _coarse_first(len(betas), len(alphas)):
                if done[row, column]:
                    continue
                losses[row, column], done[row, column] = loss(alphas[column], betas[row]), True
                shown.advance(1, loss=float(losses[row, column]))
                if time.monotonic() - saved > _KEEP_SECONDS:
                    kept.keep(losses, done)
                    saved = time.monotonic()
        finally:
            kept.keep(losses, done)
    return losses


class _Points(TypedDict):
    """The saved state of a surface: the losses, which points have been evaluated, and the seconds spent so far."""

    loss: Tensor
    done: Tensor
    seconds: Annotated[float, files.Range(0)]


class SavedGrid:
    """The evaluated points in a file, from which an interrupted surface continues.

    Attributes:
        before: Seconds that earlier runs of the command have spent.
        seconds: Returns the seconds that this run has spent.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any], seconds: Callable[[], float] = lambda: 0.0) -> None:
        """Describe the file; `identity` identifies the surface, and no file is used if `path` is None."""
        other, damaged = "Use the same settings as before, or another --state.", "Use another --state."
        self._state: SavedState | None = None
        if path is not None:
            self._state = SavedState(path, identity, work="surface", if_other=other, if_damaged=damaged)
        self.before, self.seconds = 0.0, seconds

    def restore(self, shape: tuple[int, int]) -> tuple[Grid, Done]:
        """Return the losses in the file, and which points are evaluated; without a file, all losses are NaN.

        Raises:
            InputError: The file contains no surface, or a surface of another size, or the file was changed.
            SettingsError: The file contains a surface with other settings.
        """
        points = None if self._state is None else self._state.read(_Points)
        if points is None or self._state is None:
            return numpy.full(shape, math.nan), numpy.zeros(shape, dtype=bool)
        losses, done = points["loss"], points["done"]
        if any(part.shape != shape or part.layout != torch.strided for part in (losses, done)) or (
            (losses.dtype, done.dtype) != (torch.float64, torch.bool)
        ):
            raise self._state.unusable(f"its points are not on a grid of the shape {shape}")
        self.before = points["seconds"]
        return losses.numpy().copy(), done.numpy().copy()

    def keep(self, losses: Grid, done: Done) -> None:
        """Write the points that are evaluated so far; if this fails after an earlier read or write succeeded, only warn.

        Raises:
            InputError: The file cannot be written, and no earlier read or write succeeded.
        """
        if self._state is not None:
            seconds = self.before + self.seconds()
            points = {"loss": torch.from_numpy(losses), "done": torch.from_numpy(done), "seconds": seconds}
            self._state.write_or_warn(points)


def _coarse_first(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield all positions of a grid: every eighth row and column first, then every fourth, ..."""
    seen = set()
    for stride in (8, 4, 2, 1):
        for place in ((row, column) for row in range(0, rows, stride) for column in range(0, columns, stride)):
            if place not in seen:
                seen.add(place)
                yield place
