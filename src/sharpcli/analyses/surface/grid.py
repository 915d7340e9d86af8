"""The grid of a surface: evaluated from coarse to fine, and kept in a file as the points come."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli import checkpoints, files, progress
from sharpcli.errors import InputError, SettingsError

_KEEP_SECONDS = 1.0  # A kill costs at most the points of this time.

Grid = NDArray[numpy.float64]
Done = NDArray[numpy.bool_]


def fill(loss: Callable[[float, float], float], alphas: Sequence[float], betas: Sequence[float], kept: KeptGrid) -> Grid:
    """Evaluate a function on a grid, coarse points first; return rows of β, columns of α.

    Every point is evaluated at its own coordinates: nothing is carried from one to the next.
    """
    losses, done = kept.restore((len(betas), len(alphas)))
    kept.keep(losses, done)  # What cannot be written shows here, before the work.
    saved = time.monotonic()
    with progress.task("surface", total=losses.size, units="points", done=int(done.sum())) as shown:
        try:
            for row, column in _coarse_first(len(betas), len(alphas)):
                if done[row, column]:
                    continue
                losses[row, column], done[row, column] = loss(alphas[column], betas[row]), True
                shown.advance(1, loss=float(losses[row, column]))
                if time.monotonic() - saved > _KEEP_SECONDS:
                    kept.keep_if_possible(losses, done)
                    saved = time.monotonic()
        finally:
            kept.keep_if_possible(losses, done)
    return losses


class _Points(TypedDict):
    """What is kept of a surface: of what it is, the losses, which of them have been evaluated, and a hash of both."""

    identity: str
    seal: str
    loss: Tensor
    done: Tensor
    seconds: Annotated[float, files.Range(0)]


class KeptGrid:
    """The evaluated points in a file, from which an interrupted surface continues.

    Attributes:
        before: Seconds that earlier runs of the command have spent.
        seconds: Returns the seconds that this one has spent.
    """

    def __init__(self, place: Path | None, identity: dict[str, Any], seconds: Callable[[], float] = lambda: 0.0) -> None:
        """Describe the file; `identity` says which surface it is of, and no file is used where `place` is None."""
        self.place, self.identity = place, json.dumps(identity, sort_keys=True)
        self.before, self.seconds = 0.0, seconds

    def restore(self, shape: tuple[int, int]) -> tuple[Grid, Done]:
        """Return the losses that the file holds and which of them are evaluated; an empty grid if there is no file.

        Raises:
            InputError: The file holds no surface, one of another size, or was changed.
            SettingsError: It holds a surface with other settings.
        """
        empty = numpy.full(shape, math.nan), numpy.zeros(shape, dtype=bool)
        if self.place is None or not files.is_there(self.place):
            return empty
        content = files.read_object(self.place)
        try:
            points = files.conform(content, _Points, "surface")
        except files.ContentError as error:
            raise InputError(f"{self.place} holds no surface: {error}.", "Use another --state.") from error
        if points["identity"] != self.identity:
            raise SettingsError(
                f"{self.place} holds another surface.", "Use the settings that it was begun with, or another --state."
            )
        losses, done = points["loss"], points["done"]
        if any(part.shape != shape or part.layout != torch.strided for part in (losses, done)) or (
            (losses.dtype, done.dtype) != (torch.float64, torch.bool)
        ):
            raise InputError(f"{self.place} holds a surface of another size.", "Use another --state.")
        if points["seal"] != checkpoints.state_sha256({"loss": losses, "done": done}):
            raise InputError(f"{self.place} was changed after it was written.", "Use another --state.")
        self.before = points["seconds"]
        return losses.numpy().copy(), done.numpy().copy()

    def keep(self, losses: Grid, done: Done) -> None:
        """Write the points that are evaluated so far.

        Raises:
            InputError: The file cannot be written.
        """
        if self.place is not None:
            points = {"loss": torch.from_numpy(losses), "done": torch.from_numpy(done)}
            content: dict[str, Any] = {"identity": self.identity, "seal": checkpoints.state_sha256(points), **points}
            content["seconds"] = self.before + self.seconds()
            files.write_object(self.place, content, durable=True)

    def keep_if_possible(self, losses: Grid, done: Done) -> None:
        """Keep the points, or go on without: a full disk takes no point from the answer."""
        try:
            self.keep(losses, done)
        except InputError as error:
            progress.warn(f"The points are no longer kept: {error.message}")


def _coarse_first(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield all places of a grid: every eighth of both first, then every fourth, ..."""
    seen = set()
    for stride in (8, 4, 2, 1):
        for place in ((row, column) for row in range(0, rows, stride) for column in range(0, columns, stride)):
            if place not in seen:
                seen.add(place)
                yield place
