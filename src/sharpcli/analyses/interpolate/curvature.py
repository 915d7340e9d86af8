"""Curvature along a path: the second derivative of the loss along it, and λmax of the full Hessian at each point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from sharpcli import progress
from sharpcli.analyses.hessian import largest, planner_for
from sharpcli.analyses.hessian.report import largest_of
from sharpcli.modules import private_copy
from sharpcli.objective import Objective
from sharpcli.results import PathCurvature
from sharpcli.settings import HessianSettings, InterpolateSettings


def path_curvature(
    objective: Objective,
    alphas: Sequence[float],
    losses: Sequence[float],
    place: Callable[[float], tuple[Tensor, Mapping[str, Tensor]]],
    length: float,
    settings: InterpolateSettings,
) -> PathCurvature:
    """Measure λmax at each point of a path, and the second derivative of the loss along a straight path.

    Each search starts at the eigenvector of the previous point, and all searches share one planner. At a point whose loss is
    not finite, there is no Hessian and λmax is None. The second derivative is per squared Euclidean distance in weight space.

    Args:
        objective: The mean loss; the weights of its model are not used.
        alphas: Points, ascending.
        losses: Values of the objective at the points.
        place: Returns weights (P,) and BatchNorm statistics at a point.
        length: Euclidean distance between the ends.
        settings: Settings of the path; path, seed, precision, device and chunk size are used.
    """
    chosen = HessianSettings(
        topk=1, seed=settings.seed, dtype=settings.dtype, device=settings.device, chunk_size=settings.chunk_size
    )
    planner, warm = planner_for(chosen), None
    tops: list[float | None] = []
    verdicts: list[str] = []
    with progress.task("curvature at point", total=len(alphas)) as shown:
        for alpha, loss in zip(alphas, losses, strict=True):
            if not math.isfinite(loss):
                tops.append(None)
                verdicts.append("no Hessian")
                shown.advance(1)
                continue
            theta, buffers = place(alpha)
            pairs = largest(_with(objective, buffers), chosen, planner, theta=theta, warm=warm)
            warm = pairs.vectors[:1]
            tops.append(largest_of(pairs))
            verdicts.append(pairs.verdicts[0])
            shown.advance(1, lambda_max=float(pairs.values[0]))
    along = second_differences(alphas, losses)
    straight = settings.path == "linear" and length > 0
    return PathCurvature(
        lambda_max=tuple(tops),
        verdicts=tuple(verdicts),
        along=tuple(None if value is None or not straight else value / length**2 for value in along),
    )


def second_differences(places: Sequence[float], values: Sequence[float]) -> list[float | None]:
    """Return the second derivative of the parabola through each point and its neighbours; None at the ends or if not finite."""
    differences: list[float | None] = [None]
    for before, here, after in zip(range(len(places)), range(1, len(places)), range(2, len(places)), strict=False):
        left, right = places[here] - places[before], places[after] - places[here]
        slopes = (values[here] - values[before]) / left, (values[after] - values[here]) / right
        value = 2 * (slopes[1] - slopes[0]) / (left + right)
        differences.append(value if math.isfinite(value) else None)
    return [*differences, None][: len(places)]


def _with(objective: Objective, buffers: Mapping[str, Tensor]) -> Objective:
    """Return the objective with these BatchNorm statistics and constants in a copy of its model."""
    if not buffers:
        return objective
    model = private_copy(objective.model)
    model.load_state_dict(dict(buffers), strict=False)
    return replace(objective, model=model)
