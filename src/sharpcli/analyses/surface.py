"""The loss over a plane of weight space: around one checkpoint, through three, or along a run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli import checkpoints, files, progress
from sharpcli.analyses._account import account
from sharpcli.analyses._comparable import different_constants, require_comparable
from sharpcli.analyses._opening import Opened, label, open_checkpoint
from sharpcli.analyses._plane import Plane, eigen_plane, plane_through, principal_plane, random_plane
from sharpcli.analyses._several import chosen_paths
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.objective import Objective
from sharpcli.results import Mark, SurfaceResult
from sharpcli.settings import SurfaceSettings, chosen

_MARGIN = 0.25  # Of the extent of the marks, on each side, where no range is given.
_KEEP_SECONDS = 1.0  # What a kill costs at most.

Grid = NDArray[numpy.float64]


def surface(paths: Sequence[str | Path], settings: SurfaceSettings | None = None, **options: object) -> SurfaceResult:
    """Evaluate the loss on a grid in a plane.

    One checkpoint is the centre of two random or two eigenvector axes; three span the plane through them; a run folder
    with saved steps gives the principal plane of its way. Coarse points come first, the others between them later, and
    with `state` they are kept as they come.

    Args:
        paths: One or three checkpoints, or one run folder for `axes="pca"`.
        settings: What to do.
        **options: Its fields, in place of settings.

    Returns:
        Losses by row β and column α; one that is not finite is a gap (None in JSON), and is counted.

    Raises:
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.

    References:
        Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018.
    """
    settings = chosen(SurfaceSettings, settings, options)
    paths = chosen_paths(paths)
    if len(paths) not in (1, 3):
        raise SettingsError(
            f"A surface needs one checkpoint or three, not {len(paths)}.", "Name one, or three that span a plane."
        )
    # From the root: a model's code may change the working folder.
    state = None if settings.state is None else files.from_root(settings.state)
    holding = nullcontext() if state is None else files.held(state, "--state", folder=False)
    with holding, account(settings) as book:
        opened = _opened(paths, settings)
        objective = opened[0].objective()
        plane = _plane(opened, files.expanded(paths[0]), objective, settings)
        alphas, betas = _ranges(plane, settings)
        statistics = opened[0].objective("train") if settings.bn == "recompute" and batch_norms(opened[0].model) else None

        def loss(alpha: float, beta: float) -> float:
            theta = plane.point(alpha, beta)
            return objective.evaluate(theta, statistics.recompute_buffers(theta) if statistics else None).loss

        identity = {
            "paths": [one.checkpoint.sha256() for one in opened],
            "data": opened[0].data.fingerprint(),
            "loss": opened[0].loss,
            "plane": checkpoints.state_sha256({"origin": plane.origin, "axes": plane.axes}),
            "settings": _relevant(settings),
        }
        kept = _Kept(state, identity, book.seconds)
        losses = fill(loss, alphas, betas, kept)
        centre = loss(0.0, 0.0)
        if not numpy.isfinite(losses).any():
            raise NumericalError("No point of the plane has a finite loss.", "Use a smaller --range.")
        return SurfaceResult(
            checkpoint=opened[0].subject(),
            conditions=opened[0].conditions(objective, settings.split),
            batch_norm=settings.bn if batch_norms(opened[0].model) else "none",
            axes=plane.names,
            lengths=tuple(float(axis.double().norm()) for axis in plane.axes),
            explained=plane.explained,
            eigenvalues=plane.eigenvalues,
            alphas=tuple(alphas),
            betas=tuple(betas),
            loss=tuple(tuple(float(value) for value in row) for row in losses),
            loss_at_origin=centre,
            marks=tuple(Mark(name=name, alpha=a, beta=b, distance_from_plane=away) for name, a, b, away in plane.marks),
            not_finite=int((~numpy.isfinite(losses)).sum()),
            **book.entries(opened[0].runtime, earlier_seconds=kept.before),
        )


def _opened(paths: Sequence[str | Path], settings: SurfaceSettings) -> list[Opened]:
    """Open one or three checkpoints, which must be of one model, loss and data, and have the losses that they say."""
    if len(paths) == 3 and settings.axes != SurfaceSettings.axes:
        raise SettingsError(f"--axes {settings.axes} is for one checkpoint; three span their own plane.", "Leave --axes out.")
    opened = [open_checkpoint(path, settings) for path in paths]
    for other in opened[1:]:
        require_comparable(opened[0], other)
        if constants := different_constants(opened[0], other):
            raise InputError(
                f"The checkpoints differ in what is not trained, such as '{constants[0]}', and a plane holds weights only.",
                "Name checkpoints that differ in weights only.",
            )
    if len(opened) == 3 and settings.bn == "eval" and batch_norms(opened[0].model):
        raise SettingsError(
            "Between three checkpoints there are no stored BatchNorm statistics.", "Use --bn recompute, the default."
        )
    for one in opened:
        objective = one.objective()
        one.check_loss(objective, objective.evaluate(objective.parameters()), settings.split)
    return opened


def fill(loss: Callable[[float, float], float], alphas: Sequence[float], betas: Sequence[float], kept: _Kept) -> Grid:
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


class _Kept:
    """Points that have been evaluated, in a file, so that an interrupted surface can be gone on with.

    `before` are the seconds of the sittings before this one, and `seconds` tells those of this one.
    """

    def __init__(self, place: Path | None, identity: dict[str, Any], seconds: Callable[[], float] = lambda: 0.0) -> None:
        self.place, self.identity = place, json.dumps(identity, sort_keys=True)
        self.before, self.seconds = 0.0, seconds

    def restore(self, shape: tuple[int, int]) -> tuple[Grid, NDArray[numpy.bool_]]:
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

    def keep(self, losses: Grid, done: NDArray[numpy.bool_]) -> None:
        if self.place is not None:
            points = {"loss": torch.from_numpy(losses), "done": torch.from_numpy(done)}
            content: dict[str, Any] = {"identity": self.identity, "seal": checkpoints.state_sha256(points), **points}
            content["seconds"] = self.before + self.seconds()
            files.write_object(self.place, content, durable=True)

    def keep_if_possible(self, losses: Grid, done: NDArray[numpy.bool_]) -> None:
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


def _plane(opened: list[Opened], folder: Path, objective: Objective, settings: SurfaceSettings) -> Plane:
    theta = objective.parameters()
    if len(opened) > 1:
        points = [one.objective().parameters() for one in opened]
        return plane_through(points, [label(one.checkpoint) for one in opened])
    if settings.axes == "pca":
        final = opened[0].checkpoint
        steps = checkpoints.saved_steps(folder, final)
        found = checkpoints.same_parameters(steps, opened[0].model) if steps else []
        along = [objective.space.flatten(step.parameters).to(theta) for step in found]
        return principal_plane(along, [str(step.metadata.get("step")) for step in steps])
    if settings.axes == "eigen":
        return eigen_plane(objective, theta, settings.seed)
    return random_plane(objective, theta, settings.seed)


def _ranges(plane: Plane, settings: SurfaceSettings) -> tuple[list[float], list[float]]:
    """Return the coordinates of columns and rows: as asked for, else such that all marks are inside, else -1 to 1."""
    found = []
    for places in ([alpha for _, alpha, _, _ in plane.marks], [beta for _, _, beta, _ in plane.marks]):
        low, high = settings.bounds() or ((min(places), max(places)) if places else (-1.0, 1.0))
        if settings.bounds() is None and places:
            low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
        found.append([round(float(value), 12) for value in numpy.linspace(low, high, settings.points)])
    return found[0], found[1]


def _relevant(settings: SurfaceSettings) -> dict[str, Any]:
    """Return what the numbers depend on."""
    indifferent = ("state", "batch_size", "device", "data_root", "download", "weights")  # Weights by their hash.
    return {key: value for key, value in settings.to_dict().items() if key not in indifferent}
