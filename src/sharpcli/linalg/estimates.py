"""From samples to an estimate: mean, standard error, and an interval that covers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy
from numpy.typing import NDArray
from scipy.special import chdtri, stdtrit

from sharpcli.estimate import Estimate

_LEAST_FREEDOM = 3
_GAUSSIAN = 1e6  # Degrees of freedom beyond which χ² is so nearly Gaussian that its quantiles lose digits.
_MOST_SKEWED = math.sqrt(8)  # Of χ² with one degree of freedom, the most that a form of one probe can have.
_LEAST_QUANTILE = 0.3  # Of the quantile, which a correction for skewness leaves.
_PRIOR = 10  # Samples without covariance beside those that were drawn.

Array = NDArray[numpy.float64]


def exact(value: float) -> Estimate:
    """Return a number that no probe went into."""
    return Estimate(value=value, standard_error=0.0, lower=value, upper=value, samples=0)


def student(value: float, standard_error: float, *, freedom: float, samples: int) -> Estimate:
    """Return a value with the 95 % interval of Student's t with `freedom` degrees of freedom."""
    half = student_quantile(freedom) * standard_error
    return Estimate(value=value, standard_error=standard_error, lower=value - half, upper=value + half, samples=samples)


def of_forms(forms: Array, squares: Array, dimension: int) -> Estimate:
    """Return the trace of a matrix B of `dimension` from samples of d uᵀBu and of d ‖Bu‖² for u uniform on the unit sphere.

    The variance of the forms is 2 d/(d+2) (‖B‖_F² - tr(B)²/d), so the squares tell it better than the forms' own spread, and
    intervals need hardly more than the Gaussian quantile. Where large eigenvalues are of one sign, mean and variance come
    out large or small together, and the mean is skewed itself. Both follow from the covariance of forms and squares, which
    is 2 tr(B³): the variance is taken as it would be at the end of the interval, by regression, and the quantile by
    Cornish and Fisher 1938. That covariance is shrunk as if ten samples more had shown none.

    Args:
        forms: d uᵀBu, shape (n,), n ≥ 2.
        squares: d ‖Bu‖², shape (n,).
        dimension: d.
    """
    count, value = len(forms), float(forms.mean())
    each = value / dimension
    squares = squares - 2 * each * forms + dimension * each**2  # Of B less its mean eigenvalue.
    mean_square, share = float(squares.mean()), dimension / (dimension + 2)
    variance = 2 * share * mean_square / count
    if not variance > 0:
        return Estimate(value=value, standard_error=0.0, lower=value, upper=value, samples=count)
    spread = float(squares.var(ddof=1)) / count / mean_square**2
    quantile = student_quantile(max(2 / spread, _LEAST_FREEDOM) if spread > 0 else math.inf)
    covariance = float(numpy.cov(forms, squares)[0, 1]) * count / (count + _PRIOR)
    skewness = max(min(4 * covariance / count**2 / variance**1.5, _MOST_SKEWED), -_MOST_SKEWED)
    slope = covariance / (share * mean_square) / count  # Of the variance, by the trace.
    ends = []
    for sign in (1, -1):  # The end below is where the mean would be a high quantile, and the other way round.
        at = max(sign * (sign * quantile + skewness / 6 * (quantile**2 - 1)), _LEAST_QUANTILE * quantile)
        bent = at**2 * slope
        ends.append(value - (sign * math.sqrt(bent**2 + 4 * at**2 * variance) - bent) / 2)
    return Estimate(value=value, standard_error=math.sqrt(variance), lower=ends[0], upper=ends[1], samples=count)


def of_positive(values: Array) -> Estimate:
    """Return the mean of independent values (n,) that are not negative, as one of a scaled χ²: right for skewed ones too."""
    estimate = mean(values)
    inflated = (student_quantile(freedom_of(values)) / student_quantile(math.inf)) ** 2
    lower, upper = scaled(estimate.value, inflated * estimate.standard_error**2)
    return replace(estimate, lower=lower, upper=upper)


def scaled(value: float, variance: float) -> tuple[float, float]:
    """Return the 95 % interval for the mean of what is not negative and has such a mean and variance.

    It is taken as χ² with ν = 2 value² / variance degrees of freedom, times a scale, which is what is inverted. One
    eigenvalue alone has that distribution over the probes, and the mean of many comes near to it.
    """
    if not (value > 0 and variance > 0):
        return value, value
    freedom = 2 * value**2 / variance
    if freedom > _GAUSSIAN:
        half = student_quantile(math.inf) * math.sqrt(variance)
        return value - half, value + half
    return freedom * value / float(chdtri(freedom, 0.025)), freedom * value / float(chdtri(freedom, 0.975))


def difference(first: float, ends: tuple[float, float], second: float, others: tuple[float, float]) -> tuple[float, float]:
    """Return the interval for the difference of two independent numbers with intervals (Zou and Donner 2008)."""
    middle = first - second
    below = math.hypot(first - ends[0], others[1] - second)
    return middle - below, middle + math.hypot(ends[1] - first, second - others[0])


def widened(estimate: Estimate, error: float) -> Estimate:
    """Return an estimate whose interval allows for products that are off, by so much in all."""
    return replace(estimate, lower=estimate.lower - error, upper=estimate.upper + error)


def shifted(estimate: Estimate, known: float) -> Estimate:
    """Return an estimate of what is estimated and what is known together."""
    value, lower, upper = (number + known for number in (estimate.value, estimate.lower, estimate.upper))
    return replace(estimate, value=value, lower=lower, upper=upper)


def mean(values: Array) -> Estimate:
    """Return the mean of skewed independent values (n,): fewer degrees of freedom where few of them make the variance."""
    variance = float(values.var(ddof=1)) / len(values)
    return student(float(values.mean()), math.sqrt(variance), freedom=freedom_of(values), samples=len(values))


def freedom_of(values: Array) -> float:
    """Return the degrees of freedom of the variance of the mean of values (n,)."""
    squares = (values - values.mean()) ** 2 / (len(values) - 1)
    return satterthwaite(float(squares.mean()), squares)


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
