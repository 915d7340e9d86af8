"""The sharpness of a checkpoint, by Keskar's definition or by any other measure in `measures/`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Unpack

import torch
from torch import nn

from sharpcli import progress
from sharpcli.analyses.provenance import recording
from sharpcli.analyses.sharpness.measuring import applicable_measures, readings, requested_measures
from sharpcli.errors import IncompleteError
from sharpcli.linalg.reductions import norm
from sharpcli.loading import check_loss, live_or_file, load_checkpoint
from sharpcli.measures import epsilon_sharpness
from sharpcli.results import Reading, SharpnessResult
from sharpcli.settings import SharpnessSettings, chosen
from sharpcli.settings.options import SharpnessOptions


def sharpness(
    checkpoint: str | Path | nn.Module,
    data: object = None,
    *,
    name: str | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    settings: SharpnessSettings | None = None,
    **options: Unpack[SharpnessOptions],
) -> SharpnessResult:
    """Measure Keskar's ε-sharpness φ(ε, A) for each requested box size and subspace, or the named measures.

    Args:
        checkpoint: File, run folder, or a model in memory, which is not changed.
        data: For a model, or the name of a data set; see `hessian`.
        name: Name of a model in memory in the result.
        optimizer: For a model: the optimizer that trains it, for `measure="critical-sharpness:direction=optimizer"`; it is
            not changed.
        settings: Settings of the measurement.
        **options: Fields of the settings, instead of `settings`, such as `sharpness("a.pt", epsilon=(1e-3,))`.

    Returns:
        One measurement for each box size ε and subspace dimension p, with φ in percent of 1 + f, where f is the mean loss; or
        one reading for each named measure.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`.
        IncompleteError: A measure has raised an error; the error holds the result with the measures before it.

    References:
        Keskar et al., ICLR 2017, equation (3), tables 3 and 4.
    """
    place, given = live_or_file(checkpoint, data, options, name=name, optimizer=optimizer)
    settings = chosen(SharpnessSettings, settings, given)
    wanted = requested_measures(settings.measure)
    with recording(settings) as record:
        loaded = load_checkpoint(place, settings)
        objective = loaded.objective()
        theta = objective.parameters()
        evaluation = objective.evaluate(theta)
        check_loss(loaded, objective, evaluation, settings.split)
        slope = norm(objective.gradient(theta))
        boxes = [] if wanted else [(p, e) for p in _fitting(settings.subspace, len(theta)) for e in settings.epsilon]
        measured = [
            epsilon_sharpness.measure(
                objective,
                theta,
                seed=settings.seed,
                epsilon=epsilon,
                subspace=subspace,
                iterations=settings.iterations,
                restarts=settings.restarts,
                draws=settings.draws,
                eigenvector=settings.eigenvector,
            )
            for subspace, epsilon in progress.each("measurement", boxes)
        ]
        if "all" in settings.measure:
            wanted = applicable_measures(wanted, objective)
        failed = [one for one in measured if one.phi is None]
        if failed:
            progress.warn(
                f"{len(failed)} of {len(measured)} measurements failed: {'; '.join(sorted({one.note for one in failed}))}"
            )

        def result_of(readings: Iterable[Reading]) -> SharpnessResult:
            return SharpnessResult(
                checkpoint=loaded.subject(),
                conditions=loaded.conditions(objective, settings.split),
                loss=evaluation.loss,
                accuracy=evaluation.accuracy,
                gradient_norm=slope,
                weight_norm=norm(theta),
                measurements=tuple(measured),
                readings=tuple(readings),
                **record.fields(loaded.runtime),
            )

        try:
            update = partial(loaded.next_update, objective, theta)
            return result_of(readings(wanted, objective, theta, seed=settings.seed, update=update))
        except IncompleteError as error:
            raise IncompleteError([result_of(error.results)], error.cause) from error


def _fitting(subspaces: tuple[int, ...], dimension: int) -> tuple[int, ...]:
    """Leave out default subspaces that are larger than the model; subspaces that the user gives are checked later."""
    if subspaces != SharpnessSettings.subspace or max(subspaces) <= dimension:
        return subspaces
    progress.warn(f"The random subspace is left out: the model has only {dimension} parameters.")
    return tuple(subspace for subspace in subspaces if subspace <= dimension)
