"""Critical sharpness: the curvature along the next update, from the step size at which the loss stops falling.

Reference: Kalra et al. 2026, A Scalable Measure of Loss Landscape Curvature, arXiv 2601.16979 (also the relative one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpcli.curvature.critical import CriticalStep, critical_step
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError, SettingsError
from sharpcli.linalg.reductions import dot, norm
from sharpcli.measures._reading import Meter, require_positive
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = (
    "λ_c = 2/η_c, η_c the step at which f(θ - η u) is no longer below f(θ); u the gradient (direction=gradient) or the next "
    "update of the optimizer divided by its rate (direction=optimizer), of the analysed loss or of that over another split "
    "(of=train, of=test). On a quadratic λ_c = uᵀHu / gᵀu"
)
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = (
    "It is the curvature along one direction: along the gradient of a quadratic at most λmax, and far below it early in a "
    "run; along the update of Adam in other units. Where the loss falls again behind a rise, there are several such steps, "
    "and the search finds one of them."
)
COST = "1 gradient and 5 to 12 evaluations; the directional sharpness beside it 1 Hessian product (curvature=false: none)"
VARIANTS: tuple[dict[str, object], ...] = ({},)
DIRECTIONS = ("gradient", "optimizer")
_GROUPS = 40
_PASSES = 6  # Of a Hessian product.
_CLEAR = 0.25  # Largest error of the crossing from rounding, in units of the tolerance, before float64 is used.
_GUESS = 8  # Rounding of a mean loss, in units of its last digit.
_STUDENT = 2.0227  # 97.5 % quantile of Student's t with 39 degrees of freedom.

Update = Callable[[str, str], Tensor]


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    update: Update | None = None,
    direction: str = "gradient",
    of: str = "",
    tolerance: float = 0.0625,
    curvature: bool = True,
) -> Reading:
    """Return λ_c, with the ends of the search as its interval, and the directional sharpness uᵀHu / ‖u‖².

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Seed of the groups of samples, for the interval of the directional sharpness.
        update: Function from a direction and a split to u, shape (P,); without it, u is the gradient of f.
        direction: "gradient" or "optimizer".
        of: The split whose loss gives u: "train" or "test"; "" for that of f. With another split λ_c is the relative critical
            sharpness.
        tolerance: Relative distance of the ends of the search; the value is 2 divided by their mean.
        curvature: Whether the directional sharpness is computed, which needs a second derivative.

    Raises:
        SettingsError: An option is not valid, or there is nothing that gives the direction.
        InputError: The file has no state of an optimizer.
    """
    require_positive(tolerance=tolerance)
    if direction not in DIRECTIONS:
        raise SettingsError(f"The option direction is '{direction}', which is unknown.", "Use gradient or optimizer.")
    options = {"direction": direction, "of": of, "tolerance": tolerance, "curvature": curvature}
    meter = Meter("critical-sharpness", objective, theta, options, unit="1 / learning rate")
    base, gradient = meter.slope(theta.new_zeros(len(theta)))
    if direction == "gradient" and not of:
        along = gradient
    elif update is None:
        raise SettingsError(
            "Only the gradient of the analysed loss is known here as a direction.", "Leave direction and of out, or use a file."
        )
    else:
        along = update(direction, of).to(theta)
        meter.passes += 2
    slope = dot(gradient, along)
    if not slope > 0:
        what = "the gradient is 0" if not norm(gradient) else f"the loss rises along it, by {-slope:.3g} per unit of step"
        return meter.reading(None, slope=slope, note=f"There is no step that lowers the loss: {what}.")
    found, meter = _searched(meter, base, along, slope, tolerance)
    curve = _directional(objective, theta, along, slope, seed) if curvature else {}
    meter.passes += _PASSES * bool(curve)
    return _reading(meter, found, slope, curve, along)


def _searched(meter: Meter, base: float, along: Tensor, slope: float, tolerance: float) -> tuple[CriticalStep, Meter]:
    """Return the critical step, and the meter that measured it: in float64 if rounding could move the crossing."""

    def search(meter: Meter, level: float, start: float) -> CriticalStep:
        direction = along.to(meter.theta)
        return critical_step(lambda step: meter.loss(-step * direction), level, start, tolerance)

    found = search(meter, base, abs(base) / slope or 1.0)  # From Polyak's step.
    if not found.is_found or found.shift(slope, _error(meter)) <= _CLEAR * tolerance or not _has_wide(meter):
        return found, meter
    wide = meter.widened()
    return search(wide, wide.base, found.middle), wide


def _error(meter: Meter) -> float:
    """Return the possible rounding error of a loss; a guess for a model that runs in one precision only."""
    try:
        return meter.heights.at_weights.of_search
    except InputError:
        return _GUESS * torch.finfo(meter.theta.dtype).eps * abs(meter.base)


def _has_wide(meter: Meter) -> bool:
    """Return whether the loss can be computed in float64 instead."""
    try:
        return meter.theta.dtype != torch.float64 and meter.heights.theta.dtype == torch.float64
    except InputError:
        return False


def _reading(meter: Meter, found: CriticalStep, slope: float, curve: dict[str, float | None], along: Tensor) -> Reading:
    details: dict[str, Any] = {"slope": slope, "length": norm(along), **curve}
    if not found.is_found:
        what = f"it is still lower at a step of {found.lower:.3g}" if found.lower else "no step lowered it"
        return meter.reading(None, **details, note=f"The loss did not cross its value at the weights: {what}.")
    interval = found.interval(slope, _error(meter))
    if interval is None:
        return meter.reading(None, **details, note="The fall of the loss along the direction is below its rounding error.")
    low, high = interval
    note = "Measured in float64." if meter.theta.dtype != along.dtype else ""
    return meter.reading(found.sharpness, critical_step=found.middle, lower=low, upper=high, **details, note=note)


def _directional(objective: Objective, theta: Tensor, along: Tensor, slope: float, seed: int) -> dict[str, float | None]:
    """Return uᵀHu / ‖u‖² with its 95 % interval over the samples, and uᵀHu / gᵀu, which λ_c is on a quadratic."""
    unit = along / norm(along)
    try:
        operator = operator_of("hessian", objective, theta, memory=0)
        seen = operator.quadratic_forms(unit, groups=_GROUPS, seed=seed)
    except InputError:  # Such as a kernel of attention without any second derivative, on a device without float64.
        return {"directional_sharpness": None}
    value, error = seen.mean()
    reach = _STUDENT * error if len(seen.forms) == _GROUPS else None  # Fewer samples than groups have no interval.
    return {
        "directional_sharpness": value,
        "directional_lower": None if reach is None else value - reach,
        "directional_upper": None if reach is None else value + reach,
        "on_a_quadratic": value * norm(along) ** 2 / slope,
    }
