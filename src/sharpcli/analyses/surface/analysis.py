"""The loss over a plane in weight space: around one checkpoint, through three checkpoints, or along a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Unpack

import numpy
from torch import nn

from sharpcli import files
from sharpcli.analyses.compatibility import different_constants, require_compatible
from sharpcli.analyses.provenance import recording
from sharpcli.analyses.surface.grid import SavedGrid, fill
from sharpcli.analyses.surface.plane import Plane, eigen_plane, plane_through, principal_plane, random_plane
from sharpcli.batchnorm import batch_norms
from sharpcli.checkpoints import same_parameters, saved_steps, state_sha256
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.loading import (
    LiveModel,
    LoadedCheckpoint,
    Place,
    check_loss,
    checkpoint_paths,
    label,
    live_or_files,
    load_checkpoint,
)
from sharpcli.objective import Objective
from sharpcli.results import Mark, SurfaceResult
from sharpcli.settings import SurfaceSettings, chosen
from sharpcli.settings.options import SurfaceOptions

_MARGIN = 0.25  # Fraction of the extent of the marks that is added on each side, if no range is given.


def surface(
    checkpoints: str | Path | nn.Module | Sequence[str | Path | nn.Module] | Mapping[str, nn.Module],
    data: object = None,
    *,
    settings: SurfaceSettings | None = None,
    **options: Unpack[SurfaceOptions],
) -> SurfaceResult:
    """Evaluate the loss on a grid in a plane.

    One checkpoint is the centre of two random or two eigenvector axes; three checkpoints span the plane through them; a run
    folder with saved steps gives the principal plane of its trajectory. A coarse grid is evaluated first, then the points
    between. With `state`, computed points are saved in a file, from which an interrupted surface is continued.

    Args:
        checkpoints: One or three files or models in memory, or one run folder for `axes="pca"`.
        data: For models in memory, or the name of a data set; see `hessian`.
        settings: Settings of the surface.
        **options: Fields of the settings, instead of `settings`.

    Returns:
        Losses with rows for β and columns for α; losses that are not finite are None in JSON, and `not_finite` counts them.

    Raises:
        NumericalError: No point of the plane has a finite loss.
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.

    References:
        Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018.
    """
    places, given = live_or_files(checkpoints, data, options)
    settings = chosen(SurfaceSettings, settings, given)
    places = checkpoint_paths(places)
    if len(places) not in (1, 3):
        raise SettingsError(
            f"A surface needs one checkpoint or three, not {len(places)}.", "Give one, or three that span a plane."
        )
    # An absolute path, because a model's code may change the working directory.
    state = None if settings.state is None else files.from_root(settings.state)
    holding = nullcontext() if state is None else files.held(state, "--state", folder=False)
    with holding, recording(settings) as record:
        loaded = _loaded(places, settings)
        objective = loaded[0].objective()
        plane = _plane(loaded, places[0], objective, settings)
        alphas, betas = _ranges(plane, settings)
        statistics = loaded[0].objective("train") if settings.bn == "recompute" and batch_norms(loaded[0].model) else None

        def loss(alpha: float, beta: float) -> float:
            theta = plane.point(alpha, beta)
            return objective.evaluate(theta, statistics.recompute_buffers(theta) if statistics else None).loss

        identity = {
            "paths": [one.checkpoint.sha256() for one in loaded],
            "data": loaded[0].data.fingerprint(),
            "loss": loaded[0].loss,
            "plane": state_sha256({"origin": plane.origin, "axes": plane.axes}),
            "settings": _relevant(settings),
        }
        kept = SavedGrid(state, identity, record.seconds)
        losses = fill(loss, alphas, betas, kept)
        centre = loss(0.0, 0.0)
        if not numpy.isfinite(losses).any():
            raise NumericalError("No point of the plane has a finite loss.", "Use a smaller --range.")
        return SurfaceResult(
            checkpoint=loaded[0].subject(),
            conditions=loaded[0].conditions(objective, settings.split),
            batch_norm=settings.bn if batch_norms(loaded[0].model) else "none",
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
            **record.fields(loaded[0].runtime, earlier_seconds=kept.before),
        )


def _loaded(places: Sequence[Place], settings: SurfaceSettings) -> list[LoadedCheckpoint]:
    """Open one or three checkpoints; require the same model, loss and data, and compare the losses with the stored ones."""
    if len(places) == 3 and settings.axes != SurfaceSettings.axes:
        raise SettingsError(
            f"--axes {settings.axes} is only for one checkpoint. Three checkpoints define the plane.", "Leave --axes out."
        )
    loaded = [load_checkpoint(place, settings) for place in places]
    for other in loaded[1:]:
        require_compatible(loaded[0], other)
        if constants := different_constants(loaded[0], other):
            raise InputError(
                f"The checkpoints differ in tensors that are not trained, such as '{constants[0]}'.",
                "Name checkpoints that differ in weights only.",
            )
    if len(loaded) == 3 and settings.bn == "eval" and batch_norms(loaded[0].model):
        raise SettingsError(
            "Points between three checkpoints have no stored BatchNorm statistics.", "Use --bn recompute, the default."
        )
    for one in loaded:
        objective = one.objective()
        check_loss(one, objective, objective.evaluate(objective.parameters()), settings.split)
    return loaded


def _plane(loaded: list[LoadedCheckpoint], place: Place, objective: Objective, settings: SurfaceSettings) -> Plane:
    theta = objective.parameters()
    if len(loaded) > 1:
        points = [one.objective().parameters() for one in loaded]
        return plane_through(points, [label(one.checkpoint) for one in loaded])
    if settings.axes == "pca":
        final = loaded[0].checkpoint
        steps = [] if isinstance(place, LiveModel) else saved_steps(files.expanded(place), final)
        parts = same_parameters(steps, loaded[0].model) if steps else []
        along = [objective.space.flatten(step.parameters).to(theta) for step in parts]
        return principal_plane(along, [str(step.metadata.get("step")) for step in steps])
    if settings.axes == "eigen":
        return eigen_plane(objective, theta, settings.seed)
    return random_plane(objective, theta, settings.seed)


def _ranges(plane: Plane, settings: SurfaceSettings) -> tuple[list[float], list[float]]:
    """Return the coordinates of columns and rows: the given range, else a range that contains all marks, else -1 to 1."""
    coordinates = []
    for places in ([alpha for _, alpha, _, _ in plane.marks], [beta for _, _, beta, _ in plane.marks]):
        low, high = settings.bounds() or ((min(places), max(places)) if places else (-1.0, 1.0))
        if settings.bounds() is None and places:
            low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
        coordinates.append([round(float(value), 12) for value in numpy.linspace(low, high, settings.points)])
    return coordinates[0], coordinates[1]


def _relevant(settings: SurfaceSettings) -> dict[str, Any]:
    """Return the settings on which the losses depend, by name."""
    indifferent = (
        "state",
        "chunk_size",
        "device",
        "deterministic",
        "data_root",
        "download",
        "weights",
    )  # The hash identifies the weights.
    return {key: value for key, value in settings.to_dict().items() if key not in indifferent}
