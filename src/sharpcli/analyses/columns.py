"""What `compare` and `watch` measure of each checkpoint: λmax, φ, distance, and any measure by name."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import Tensor

from sharpcli.analyses.distance import displacement, reference
from sharpcli.analyses.hessian import largest
from sharpcli.analyses.sharpness.measuring import applicable_measures, readings, requested_measures
from sharpcli.checkpoints import Checkpoint
from sharpcli.curvature.planner import Planner
from sharpcli.errors import InputError
from sharpcli.loading import LoadedCheckpoint
from sharpcli.measures import epsilon_sharpness
from sharpcli.objective import Objective
from sharpcli.results import Reading
from sharpcli.settings import CompareSettings, HessianSettings, SharpnessSettings


class Columns(NamedTuple):
    """The numbers of one checkpoint.

    Attributes:
        numbers: λmax with its residual, φ and distance, as fields of a row; those that were requested.
        notes: The reasons why any number is missing.
        readings: The measures that were named.
        eigenvector: The first eigenvector (1, P), if λmax was requested.
    """

    numbers: dict[str, float | None]
    notes: tuple[str, ...]
    readings: tuple[Reading, ...]
    eigenvector: Tensor | None


def columns_of(
    loaded: LoadedCheckpoint,
    objective: Objective,
    settings: CompareSettings,
    planner: Planner,
    *,
    start: Checkpoint | None = None,
    warm: Tensor | None = None,
) -> Columns:
    """Measure what the settings request of one checkpoint.

    Args:
        loaded: The checkpoint.
        objective: Mean loss over the split that is measured.
        settings: The metrics, the measures and their settings.
        planner: Selects the engine; shared by several checkpoints.
        start: Initial weights for the distance. Default: those that the settings or the checkpoint name.
        warm: Vectors (J, P) near which the search for λmax starts.
    """
    measured: dict[str, float | None] = {}
    notes: list[str] = []
    vector = None
    if "hessian" in settings.metrics:
        pairs = largest(objective, HessianSettings(topk=1, tol=settings.tol, seed=settings.seed), planner, warm=warm)
        measured["lambda_max"], measured["lambda_max_residual"] = float(pairs.values[0]), float(pairs.residuals[0])
        vector = pairs.vectors[:1]
        if not all(pairs.converged):
            notes.append("λmax has not converged: see sharpcli hessian.")
    if "sharpness" in settings.metrics:
        defaults = SharpnessSettings()
        sharpness = epsilon_sharpness.measure(
            objective,
            objective.parameters(),
            seed=settings.seed,
            epsilon=settings.epsilon,
            iterations=defaults.iterations,
            restarts=defaults.restarts,
        )
        measured["phi"] = sharpness.phi
        if sharpness.note:
            notes.append(f"φ{' failed' if sharpness.phi is None else ''}: {sharpness.note}")
    if "distance" in settings.metrics:
        try:
            init = start or reference(loaded.checkpoint, settings.init, settings.ignore_keys, settings.allow_pickle)
            measured["distance"] = displacement(loaded.checkpoint, init, model=loaded.model).distance
        except InputError as error:
            if settings.init or start:
                raise
            notes.append(f"No distance: {error.message}")
    theta, wanted = objective.parameters(), requested_measures(settings.measure)
    wanted = applicable_measures(wanted, objective) if "all" in settings.measure else wanted
    update = partial(loaded.next_update, objective, theta)
    more = readings(wanted, objective, theta, seed=settings.seed, update=update) if wanted else ()
    notes += [f"{reading.label}: {reading.note}" for reading in more if reading.note]
    return Columns(measured, tuple(notes), more, vector)
