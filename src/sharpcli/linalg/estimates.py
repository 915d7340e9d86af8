"""Estimates from samples: mean, standard error, and an interval with correct coverage."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy
from numpy.typing import NDArray
from scipy.special import chdtri, stdtrit

from sharpcli.estimate import Estimate

_LEAST_FREEDOM = 3
_GAUSSIAN = 1e6  # Degrees of freedom above which χ² is treated as Gaussian, because its quantiles lose digits.
_MOST_SKEWED = math.sqrt(8)  # Skewness of χ² with one degree of freedom, the maximum for a quadratic form of one probe.
_LEAST_QUANTILE = 0.3  # Minimum fraction of the quantile after the correction for skewness.
_PRIOR = 10  # Number of additional samples without covariance, for shrinkage.

Array = NDArray[numpy.float64]


def exact(value: float) -> Estimate:
    """Return an estimate of a number that is known exactly, without probes."""
    return Estimate(value=value, standard_error=0.0, lower=value, upper=value, samples=0)


def student(value: float, standard_error: float, *, freedom: float, samples: int) -> Estimate:
    """Return a value with the 95 % interval of Student's t with `freedom` degrees of freedom."""
    half = student_quantile(freedom) * standard_error
    return Estimate(value=value, standard_error=standard_error, lower=value - half, upper=value + half, samples=samples)


def of_forms(forms: Array, squares: Array, dimension: int) -> Estimate:
    """Return the trace of a matrix B of `dimension` from samples of d uᵀBu and of d ‖Bu‖² for u uniform on the unit sphere.

    The variance of the forms is 2 d/(d+2) (‖B‖_F² - tr(B)²/d). So the squares give it more accurately than the spread of
    the forms, and intervals need little more than the Gaussian quantile. If the large eigenvalues have one sign, mean and
    variance are correlated, and the mean is skewed. Both effects follow from the covariance of forms and squares, which is
    2 tr(B³). The variance is predicted at each end of the interval by regression, and the quantile is corrected for
    skewness (Cornish and Fisher 1938). The covariance is shrunk as if there were ten further samples without covariance.

    Args:
        forms: d uᵀBu, shape (n,), n ≥ 2.
        squares: d ‖Bu‖², shape (n,).
        dimension: d.
    """
    count, value = len(forms), float(forms.mean())
    each = value / dimension
    squares = squares - 2 * each * forms + dimension * each**2  # For B minus its mean eigenvalue.
    mean_square, share = float(squares.mean()), dimension / (dimension + 2)
    variance = 2 * share * mean_square / count
    if not variance > 0:
        return Estimate(value=value, standard_error=0.0, lower=value, upper=value, samples=count)
    spread = float(squares.var(ddof=1)) / count / mean_square**2
    quantile = student_quantile(max(2 / spread, _LEAST_FREEDOM) if spread > 0 else math.inf)
    covariance = float(numpy.cov(forms, squares)[0, 1]) * count / (count + _PRIOR)
    skewness = max(min(4 * covariance / count**2 / variance**1.5, _MOST_SKEWED), -_MOST_SKEWED)
    slope = covariance / (share * mean_square) / count  # Derivative of the variance with respect to the trace.
    ends = []
    for sign in (1, -1):  # At the lower end the observed mean is a high quantile; at the upper end it is a low one.
        at = max(sign * (sign * quantile + skewness / 6 * (quantile**2 - 1)), _LEAST_QUANTILE * quantile)
        bent = at**2 * slope
        ends.append(value - (sign * math.sqrt(bent**2 + 4 * at**2 * variance) - bent) / 2)
    return Estimate(value=value, standard_error=math.sqrt(variance), lower=ends[0], upper=ends[1], samples=count)


def of_positive(values: Array) -> Estimate:
    """Return the mean of independent non-negative values (n,) with the interval of a scaled χ²; they may be skewed."""
    estimate = mean(values)
    inflated = (student_quantile(freedom_of(values)) / student_quantile(math.inf)) ** 2
    lower, upper = scaled(estimate.value, inflated * estimate.standard_error**2)
    return replace(estimate, lower=lower, upper=upper)


def scaled(value: float, variance: float) -> tuple[float, float]:
    """Return the 95 % interval for a non-negative mean, from its estimate and the variance of this estimate.

    The estimate is modelled as a scaled χ² with ν = 2 value² / variance degrees of freedom, and the interval is that of the
    scale. For a single eigenvalue this is the exact distribution over the probes; for many it is an approximation.
    """
    if not (value > 0 and variance > 0):
        return value, value
    freedom = 2 * value**2 / variance
    if freedom > _GAUSSIAN:
        half = student_quantile(math.inf) * math.sqrt(variance)
        return value - half, value + half
    return freedom * value / float(chdtri(freedom, 0.025)), freedom * value / float(chdtri(freedom, 0.975))


def difference(first: float, ends: tuple[float, float], second: float, others: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of the difference of two independent numbers with given intervals (Zou and Donner 2008)."""
    middle = first - second
    below = math.hypot(first - ends[0], others[1] - second)
    return middle - below, middle + math.hypot(ends[1] - first, second - others[0])


def widened(estimate: Estimate, error: float) -> Estimate:
    """Return an estimate whose interval is wider by `error` on each side, to allow for errors of products."""
    return replace(estimate, lower=estimate.lower - error, upper=estimate.upper + error)


def shifted(estimate: Estimate, known: float) -> Estimate:
    """Return the estimate of a sum of an estimated and a known number."""
    value, lower, upper = (number + known for number in (estimate.value, estimate.lower, estimate.upper))
    return replace(estimate, value=value, lower=lower, upper=upper)


def mean(values: Array) -> Estimate:
    """Return the mean of skewed independent values (n,), with fewer degrees of freedom if few values dominate the variance."""
    variance = float(values.var(ddof=1)) / len(values)
    return student(float(values.mean()), math.sqrt(variance), freedom=freedom_of(values), samples=len(values))


def freedom_of(values: Array) -> float:
    """Return the degrees of freedom of the variance of the mean of values (n,)."""
    squares = (values - values.mean()) ** 2 / (len(values) - 1)
    return satterthwaite(float(squares.mean()), squares)


def satterthwaite(variance: float, shares: Array) -> float:
    """Return 2 variance² / Var(variance); Var(variance) comes from the spread of the samples' contributions (n,) to it."""
    most, spread = len(shares) - 1, float(shares.var(ddof=1)) / len(shares)
    return min(max(2 * variance**2 / spread, _LEAST_FREEDOM), most) if spread > 0 else most


def student_quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's distribution, for a two-sided 95 % interval."""
    return float(stdtrit(freedom, 0.975))


def not_below(estimate: Estimate, floor: float) -> Estimate:
    """Return an estimate whose lower end is at least a known bound, and at most its value."""
    return replace(estimate, lower=min(max(estimate.lower, floor), estimate.value))
