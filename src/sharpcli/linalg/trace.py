"""Trace and Frobenius norm of a symmetric operator from few products, with intervals that cover.

Two ways: beside a Krylov basis that is already paid for, Hutchinson's estimator on what is left of
the space; alone, XTrace. Both draw their probes uniformly from a sphere. That is unbiased, exact for
a multiple of the identity, and depends on the spectrum only, not on the basis it comes in, so that
coverage measured on planted spectra holds for every operator that has such a spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import SettingsError
from sharpcli.linalg.estimates import Array, exact, mean, not_below, student
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.probes import finite_product, orthonormal_complement, random_direction
from sharpcli.linalg.reductions import dot
from sharpcli.results import Estimate
from sharpcli.runtime import generator

_PILOT = 10
_STREAM = 1  # Random numbers of its own, as in every other solver.


@dataclass(frozen=True)
class Moments:
    """Sum of the eigenvalues and of their squares.

    Attributes:
        trace: tr(A), in the unit of A.
        frobenius_squared: tr(A²) = ‖A‖_F², in that unit squared.
        products: Products with the operator that were spent here.
        method: "exact", "deflated Hutchinson" or "XTrace".
    """

    trace: Estimate
    frobenius_squared: Estimate
    products: int
    method: str


def deflated_moments(
    operator: SymmetricOperator,
    *,
    basis: Tensor,
    trace_inside: float,
    frobenius_squared_inside: float,
    half_width: float = 0.02,
    max_products: int = 60,
    seed: int = 0,
) -> Moments:
    """Estimate tr(A) and ‖A‖_F² with what a Krylov basis has already told, by probes of its complement.

    With V (m, P) the basis and Q = I - VᵀV, tr(A) = tr(VAVᵀ) + tr(QAQ) and ‖A‖_F² = ‖AVᵀ‖_F² +
    ‖AQ‖_F². The first terms are known; the second are (P - m)·E[uᵀAu] and (P - m)·E[‖Au‖²] for u
    uniform on the unit sphere of the complement.

    The number of probes follows Stein's two-stage procedure: ten pilot probes fix the variance of
    the trace, and the interval keeps that variance and its nine degrees of freedom, however many
    probes follow. A variance that is too small by chance then stops no run with an interval too
    narrow, which is what a rule that looks again and again does. A complement that takes fewer
    products to multiply out than the probes would is multiplied out, and the answer exact.

    Args:
        operator: Symmetric map A on vectors of shape (P,).
        basis: V, orthonormal rows (m, P). It should hold the outliers, as a Krylov basis does after some
            twenty steps: without them the samples are so skewed that intervals cover less than 90 %;
            take `xtrace` instead.
        trace_inside: tr(VAVᵀ), for a Krylov basis the sum of Lanczos' α. In the unit of A.
        frobenius_squared_inside: ‖AVᵀ‖_F², in that unit squared.
        half_width: Stop when half the interval of the trace is below half_width * |trace|. No unit.
        max_products: Most products to spend, at least 2; if they run out the interval is wider than asked for.
        seed: Of the probes.

    Returns:
        Trace and squared norm of the whole operator.

    Raises:
        NumericalError: A product is not finite.
        SettingsError: `max_products` is below 2 and does not suffice for an exact answer.

    References:
        Hutchinson 1990. Stein 1945, Annals of Mathematical Statistics 16, 243-258, for the number of
        probes. Girard 1989 for probes of constant length.
    """
    dimension, inside = operator.shape[0] - len(basis), numpy.array([trace_inside, frobenius_squared_inside])
    if dimension <= min(_PILOT, max_products):
        return multiplied_out(operator, basis, inside)
    pilot, random, samples = min(_PILOT, require_enough(max_products, 2)), generator(seed, _STREAM), list[Array]()
    with progress.task("trace, at most", total=max_products) as shown:
        while len(samples) < max_products:
            direction = random_direction(operator, basis, random)
            samples.append(dimension * forms_of(operator, direction, len(samples) + 1))
            if len(samples) < pilot:
                shown.advance(1)
                continue
            trace = _stein(inside[0], numpy.array(samples)[:, 0], pilot)
            reached, allowed = trace.upper - trace.value, half_width * abs(trace.value)
            shown.advance(1, trace=f"{trace.value:.4g}", half_width=f"{reached:.1e}")
            if reached <= allowed:
                break
            left = max_products - len(samples)
            if dimension <= min(left, len(samples) * ((reached / allowed) ** 2 - 1 if allowed else math.inf)):
                return multiplied_out(operator, basis, inside, spent=len(samples))
    squared = mean(inside[1] + numpy.array(samples)[:, 1])
    return Moments(trace, not_below(squared, inside[1]), len(samples), "deflated Hutchinson")


def _stein(inside: float, samples: Array, pilot: int) -> Estimate:
    """Return the mean of all samples with the variance of the first `pilot` ones."""
    error = float(samples[:pilot].std(ddof=1)) / math.sqrt(len(samples))
    return student(float(inside + samples.mean()), error, freedom=pilot - 1, samples=len(samples))


def multiplied_out(operator: SymmetricOperator, basis: Tensor, inside: Array, spent: int = 0) -> Moments:
    """Return the moments by multiplying out the complement of a basis."""
    rows = orthonormal_complement(basis)
    with progress.task("trace, exactly", total=len(rows)) as shown:
        total = inside.copy()
        for count, row in enumerate(rows, start=spent + 1):
            total += forms_of(operator, row, count)
            shown.advance(1)
    return Moments(exact(float(total[0])), exact(float(total[1])), spent + len(rows), "exact")


def forms_of(operator: SymmetricOperator, vector: Tensor, count: int) -> Array:
    """Return uᵀAu and ‖Au‖² of a unit vector."""
    product, length = finite_product(operator, vector, count)
    return numpy.array([dot(vector, product), length**2])


def require_enough(max_products: int, least: int) -> int:
    """Return a number of products, or refuse it where no interval can be had from so few."""
    if max_products < least:
        raise SettingsError(f"An interval takes at least {least} products, not {max_products}.", "Allow more products.")
    return max_products
