"""Keskar's ε-sharpness of a checkpoint, in full space and in a random subspace."""

from __future__ import annotations

import time
from pathlib import Path

from sharpcli import progress
from sharpcli.analyses._opening import open_checkpoint
from sharpcli.linalg.reductions import norm
from sharpcli.measures import epsilon_sharpness
from sharpcli.results import SharpnessResult
from sharpcli.runtime import provenance
from sharpcli.settings import SharpnessSettings


def sharpness(checkpoint: str | Path, settings: SharpnessSettings | None = None, **options: object) -> SharpnessResult:
    """Measure φ(ε, A) for each box size and each subspace that the settings ask for.

    Args:
        checkpoint: File, or run folder.
        settings: What to do.
        **options: Its fields, in place of settings, such as `sharpness("a.pt", epsilon=(1e-3,))`.

    Returns:
        One measurement for each pair of ε and p, φ in percent of 1 + f.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`.

    References:
        Keskar et al., ICLR 2017, equation (3), tables 3 and 4.

    """
    settings = settings or SharpnessSettings(**options)  # type: ignore[arg-type]
    started = time.perf_counter()
    opened = open_checkpoint(checkpoint, settings)
    objective = opened.objective()
    theta = objective.parameters()
    evaluation = objective.evaluate(theta)
    warnings = list(opened.warnings(evaluation, settings.split))
    slope = norm(objective.gradient(theta))
    measured = [
        epsilon_sharpness.measure(
            objective,
            theta,
            seed=settings.seed,
            epsilon=epsilon,
            subspace=subspace,
            iterations=settings.iterations,
            restarts=settings.restarts,
        )
        for subspace in settings.subspace
        for epsilon in settings.epsilon
    ]
    failed = [one for one in measured if one.phi is None]
    if failed:
        warnings.append(
            f"{len(failed)} of {len(measured)} measurements failed: no point of the box was higher than the weights."
        )
        progress.warn(warnings[-1])
    return SharpnessResult(
        checkpoint=opened.subject(),
        conditions=opened.conditions(objective, settings.split),
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        gradient_norm=slope,
        weight_norm=norm(theta),
        measurements=tuple(measured),
        settings=settings.to_dict(),
        provenance=provenance(opened.runtime),
        seconds=time.perf_counter() - started,
        warnings=tuple(warnings),
    )
