"""From samples to an estimate: mean, standard error, and an interval that covers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy
from numpy.typing import NDArray
from scipy.special import stdtrit

from sharpcli.results import Estimate

_LEAST_FREEDOM = 3

Array = NDArray[numpy.float64]


def exact(value: float) -> Estimate:
    """Return a number that no probe went into."""
    return Estimate(value=value, standard_error=0.0, lower=value, upper=value, samples=0)


def student(value: float, standard_error: float, *, freedom: float, samples: int) -> Estimate:
    """Return a value with the 95 % interval of Student's t with `freedom` degrees of freedom."""
    half = student_quantile(freedom) * standard_error
    return Estimate(value=value, standard_error=standard_error, lower=value - half, upper=value + half, samples=samples)


def mean(values: Array) -> Estimate:
    """Return the mean of skewed independent values (n,): fewer degrees of freedom where few of them make the variance."""
    squares = (values - values.mean()) ** 2 / (len(values) - 1)
    variance = float(squares.mean())
    freedom = satterthwaite(variance, squares)
    return student(float(values.mean()), math.sqrt(variance), freedom=freedom, samples=len(values))


def satterthwaite(variance: float, shares: Array) -> float:
    """Return 2 variance² / Var(variance), the latter from the spread of the samples' shares (n,) in it."""
    most, spread = len(shares) - 1, float(shares.var(ddof=1)) / len(shares)
    return min(max(2 * variance**2 / spread, _LEAST_FREEDOM), most) if spread > 0 else most


def student_quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's distribution, which a two-sided 95 % interval takes."""
    return float(stdtrit(freedom, 0.975))


def not_below(estimate: Estimate, floor: float) -> Estimate:
    """Return an estimate whose interval does not reach below what is known, nor above its value."""
    return replace(estimate, lower=min(max(estimate.lower, floor), estimate.value))
