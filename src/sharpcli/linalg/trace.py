"""Trace and Frobenius norm of a symmetric operator from few products, with intervals of correct coverage.

There are two methods. If a Krylov basis already exists, Hutchinson's estimator is used on its complement;
otherwise XTrace is used. Both draw their probes uniformly from a sphere. This is unbiased, exact for
a multiple of the identity, and depends on the spectrum only, not on the eigenvectors. So the
coverage measured on synthetic spectra holds for every operator with such a spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.errors import SettingsError
from sharpcli.estimate import Estimate
from sharpcli.linalg.accuracy import Accuracy
from sharpcli.linalg.estimates import Array, exact, not_below, of_forms, of_positive, shifted, widened
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.probes import finite_product, orthonormal_complement, random_direction
from sharpcli.linalg.reductions import dot, project
from sharpcli.runtime import generator

_PILOT = 10


@dataclass(frozen=True)
class Moments:
    """Sum of the eigenvalues and of their squares.

    Attributes:
        trace: tr(A), in the unit of A.
        frobenius_squared: tr(A²) = ‖A‖_F², in that unit squared.
        products: Number of products with the operator for this estimate.
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
    error: float = 0.0,
) -> Moments:
    """Estimate tr(A) and ‖A‖_F² from a Krylov basis with its known products, and probes of its complement.

    With V (m, P) the basis and Q = I - VᵀV, tr(A) = tr(VAVᵀ) + tr(QAQ) and ‖A‖_F² = ‖AVᵀ‖_F² +
    ‖AQ‖_F². The first terms are known; the second are (P - m)·E[uᵀAu] and (P - m)·E[‖Au‖²] for u
    uniform on the unit sphere of the complement.

    From the tenth probe on, the interval of the trace is checked after each probe. A repeated check stops
    too early when a variance estimate is too small by chance. Here the variance comes from the second
    moments of the probes, which vary little, and not from their spread; see `estimates.of_forms`.
    If the complete matrix of the complement needs fewer products than the probes, it is computed
    instead, and the result is exact.

    Both intervals allow for errors of products: `error` for the products of the basis, and the error
    measured by `accuracy` for the products made here.

    Args:
        operator: Symmetric map A on vectors of shape (P,).
        basis: V, orthonormal rows (m, P). It should contain the outliers, as a Krylov basis does after
            about twenty steps: without them the samples are so skewed that intervals cover less than 90 %;
            then use `xtrace` instead.
        trace_inside: tr(VAVᵀ), for a Krylov basis the sum of Lanczos' α. In the unit of A.
        frobenius_squared_inside: ‖AVᵀ‖_F², in that unit squared.
        half_width: Stop when half the interval of the trace is below half_width * |trace|. No unit.
        max_products: Maximum number of products, at least 2; if it is reached, the interval may be wider than requested.
        seed: Seed of the probes.
        error: Largest length of the error of the product with a unit vector of the basis, in the unit of A.

    Returns:
        Trace and squared norm of the entire operator.

    Raises:
        NumericalError: A product is not finite.
        SettingsError: `max_products` is below 2 and does not suffice for an exact answer.

    References:
        Hutchinson 1990. Girard 1989 for probes of constant length.
    """
    dimension, inside = operator.shape[0] - len(basis), numpy.array([trace_inside, frobenius_squared_inside])
    known = len(basis) * error, error * (2 * math.sqrt(len(basis) * frobenius_squared_inside) + len(basis) * error)
    if dimension <= min(_PILOT, max_products):
        return multiplied_out(operator, basis, inside, off=known, seed=seed)
    pilot, random, samples = min(_PILOT, require_enough(max_products, 2)), generator(seed, streams.TRACE_PROBES), list[Array]()
    accuracy = Accuracy(operator)
    with progress.task("trace", total=max_products, units="products") as shown:
        while len(samples) < max_products:
            direction = random_direction(operator, basis, random)
            samples.append(dimension * _forms_of(operator, basis, direction, len(samples) + 1, accuracy))
            if len(samples) < pilot:
                shown.advance(1)
                continue
            forms, whole, left = numpy.array(samples).T
            trace = shifted(of_forms(forms, left, dimension), float(inside[0]))
            reached, allowed = max(trace.upper - trace.value, trace.value - trace.lower), half_width * abs(trace.value)
            shown.advance(1, trace=trace.value, half_width=reached)
            if reached <= allowed:
                break
            more = max_products - len(samples)
            likely = len(samples) * ((reached / allowed) ** 2 - 1 if allowed else math.inf)
            shown.expect(min(more, likely))
            if dimension <= min(more, likely):
                return multiplied_out(operator, basis, inside, spent=len(samples), off=known, seed=seed)
    off = numpy.add(known, accuracy.off(dimension))
    squared = not_below(shifted(of_positive(whole), float(inside[1])), float(inside[1]))
    return Moments(widened(trace, off[0]), widened(squared, off[1]), len(samples), "deflated Hutchinson")


def multiplied_out(
    operator: SymmetricOperator,
    basis: Tensor,
    inside: Array,
    *,
    spent: int = 0,
    off: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
) -> Moments:
    """Return the exact moments, from products with all vectors of an orthonormal basis of the complement.

    Args:
        operator: A.
        basis: Orthonormal rows (m, P).
        inside: Both moments (2,) within the basis.
        spent: Number of products spent before.
        off: Bounds on the errors of the moments within the basis.
        seed: Seed of a random vector of the complement, along which the operator measures its error; errors along
            coordinate axes would not be representative.
    """
    rows, accuracy = orthonormal_complement(basis), Accuracy(operator)
    if len(rows):
        random = generator(seed, streams.TRACE_CHECK, 1)
        accuracy.see_error(random_direction(operator, basis, random), 0.0)  # The length is not needed.
    with progress.task("trace", total=len(rows), units="products") as shown:
        total = inside.copy()
        for count, row in enumerate(rows, start=spent + 1):
            total += _forms_of(operator, basis, row, count, accuracy)[:2]
            shown.advance(1)
    allowed = numpy.add(off, accuracy.off(len(rows)))
    trace, squared = (widened(exact(float(number)), float(error)) for number, error in zip(total, allowed, strict=True))
    return Moments(trace, squared, spent + len(rows), "exact")


def _forms_of(operator: SymmetricOperator, basis: Tensor, vector: Tensor, count: int, accuracy: Accuracy) -> Array:
    """Return uᵀAu, ‖Au‖² and ‖QAu‖² for a unit vector u of the complement of the basis; Q projects on the complement."""
    product, length = finite_product(operator, vector, count)
    accuracy.see(vector, product, length)
    inside = float(project(basis, product).square().sum()) if len(basis) else 0.0
    return numpy.array([dot(vector, product), length**2, max(length**2 - inside, 0.0)])


def require_enough(max_products: int, least: int) -> int:
    """Return a number of products, or refuse it if it is too small for an interval."""
    if max_products < least:
        raise SettingsError(f"An interval needs at least {least} products, not {max_products}.", "Allow more products.")
    return max_products
