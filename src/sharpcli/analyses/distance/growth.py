"""The growth of the distance from the initial weights: as the logarithm or as a power of the number of updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sharpcli.results import Growth, GrowthFit

_LEAST = 6  # Minimum number of points; with fewer, two parameters fit almost any data.
_TELLING = 10.0  # AIC difference from which the worse form has no support (Burnham and Anderson 2002, section 2.6).
_PARAMETERS = 3  # Number of parameters of each form, including the variance.

Vector = NDArray[numpy.float64]


def growth(lines: Sequence[dict[str, Any]], low: int, high: int | None) -> Growth | None:
    """Fit d = a + b log t and d = c t^p to distances at t updates, both by least squares in d.

    Args:
        lines: Each with "step" t ≥ 1 and "distance".
        low: First update to use.
        high: Last update to use, or None for no limit.

    Returns:
        Both fits, and the form that Akaike's criterion, corrected for few points, prefers; None if there are too few points.

    References:
        Hoffer et al., NeurIPS 2017 (log t); Hurvich and Tsai 1989 (AICc).
    """
    chosen = [line for line in lines if low <= line["step"] and (high is None or line["step"] <= high) and line["distance"] > 0]
    if len(chosen) < _LEAST:
        return None
    updates, distances = (numpy.array([line[key] for line in chosen], dtype=float) for key in ("step", "distance"))
    fits = (_logarithm(updates, distances), _power(updates, distances))
    difference = fits[1].aic - fits[0].aic
    better = fits[0] if difference > 0 else fits[1]
    return Growth(
        steps=tuple(int(update) for update in updates),
        distances=tuple(float(distance) for distance in distances),
        fits=fits,
        preferred=better.form if abs(difference) >= _TELLING else None,
        aic_difference=difference,
        sentence=_sentence(fits, better, abs(difference), len(chosen)),
    )


def _logarithm(updates: Vector, distances: Vector) -> GrowthFit:
    columns = numpy.stack([numpy.ones_like(updates), numpy.log(updates)], axis=1)
    (a, b), *_ = numpy.linalg.lstsq(columns, distances, rcond=None)
    return _fit("log", {"a": float(a), "b": float(b)}, lambda t: a + b * numpy.log(t), updates, distances)


def _power(updates: Vector, distances: Vector) -> GrowthFit:
    """Fit the logarithms by a line, then fit the distances from there, so that both forms weight errors equally."""
    slope, intercept = numpy.polyfit(numpy.log(updates), numpy.log(distances), 1)
    solution = least_squares(
        lambda free: numpy.exp(free[0]) * updates ** free[1] - distances,
        (intercept, slope),
        x_scale="jac",
        xtol=1e-12,
        ftol=1e-12,
    )
    c, p = math.exp(float(solution.x[0])), float(solution.x[1])
    return _fit("power", {"c": c, "p": p}, lambda t: c * t**p, updates, distances)


def _fit(
    form: str, parameters: dict[str, float], curve: Callable[[Vector], Vector], updates: Vector, distances: Vector
) -> GrowthFit:
    residuals = distances - curve(updates)
    count, squares = len(updates), float(residuals @ residuals)
    spread = float(((distances - distances.mean()) ** 2).sum())
    # An exact fit would have variance zero; the rounding error is the lower limit.
    variance = max(squares / count, (numpy.finfo(float).eps * float(distances.max())) ** 2)
    correction = 2 * _PARAMETERS * (_PARAMETERS + 1) / (count - _PARAMETERS - 1)
    return GrowthFit(
        form=form,
        parameters=parameters,
        r_squared=1 - squares / spread if spread else math.nan,
        aic=count * math.log(variance) + 2 * _PARAMETERS + correction,
        residuals=tuple(float(residual) for residual in residuals),
    )


def _sentence(fits: tuple[GrowthFit, GrowthFit], better: GrowthFit, difference: float, count: int) -> str:
    log, power = fits
    sentence = (
        f"log t: {log.parameters['a']:.4g} + {log.parameters['b']:.4g} log t, R² = {log.r_squared:.4f}; "
        f"power: {power.parameters['c']:.4g} t^{power.parameters['p']:.3f}, R² = {power.r_squared:.4f}; {count} points"
    )
    names = {"log": "log t (Hoffer et al. 2017)", "power": "the power law"}
    if difference < _TELLING:
        return f"The data do not distinguish log t from the power law (AIC difference {difference:.1f}). {sentence}."
    return f"The data prefer {names[better.form]} (AIC difference {difference:.1f}). {sentence}."
