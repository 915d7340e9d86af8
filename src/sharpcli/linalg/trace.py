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
    error: float = 0.0,
) -> Moments:
    """Estimate tr(A) and ‖A‖_F² with what a Krylov basis has already told, by probes of its complement.

    With V (m, P) the basis and Q = I - VᵀV, tr(A) = tr(VAVᵀ) + tr(QAQ) and ‖A‖_F² = ‖AVᵀ‖_F² +
    ‖AQ‖_F². The first terms are known; the second are (P - m)·E[uᵀAu] and (P - m)·E[‖Au‖²] for u
    uniform on the unit sphere of the complement.

    From ten probes on the interval of the trace is looked at after each. A rule that looks again and
    again stops runs whose variance is too small by chance. Here the variance comes from the second
    moments of the probes, which hardly vary, and not from their spread; see `estimates.of_forms`.
    A complement that takes fewer products to multiply out than the probes would is multiplied out,
    and the answer exact.

    Both intervals allow for products that are off: those that made the basis by `error`, those made
    here by what they show themselves; see `accuracy`.

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
        error: How long the error of the product with a unit vector of the basis may be, in the unit of A.

    Returns:
        Trace and squared norm of the whole operator.

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
    """Return the moments by multiplying out the complement of a basis.

    Args:
        operator: A.
        basis: Orthonormal rows (m, P).
        inside: Both moments (2,) within the basis.
        spent: Products spent before.
        off: How far those within the basis may be off.
        seed: Of the turn of the basis of the complement: errors of products with coordinates alone are no measure.
    """
    rows, accuracy = orthonormal_complement(basis), Accuracy(operator)
    if len(rows):
        random = generator(seed, streams.TRACE_CHECK, 1)
        accuracy.see_error(random_direction(operator, basis, random), 0.0)  # Any length will do.
    with progress.task("trace", total=len(rows), units="products") as shown:
        total = inside.copy()
        for count, row in enumerate(rows, start=spent + 1):
            total += _forms_of(operator, basis, row, count, accuracy)[:2]
            shown.advance(1)
    allowed = numpy.add(off, accuracy.off(len(rows)))
    trace, squared = (widened(exact(float(number)), float(error)) for number, error in zip(total, allowed, strict=True))
    return Moments(trace, squared, spent + len(rows), "exact")


def _forms_of(operator: SymmetricOperator, basis: Tensor, vector: Tensor, count: int, accuracy: Accuracy) -> Array:
    """Return uᵀAu, ‖Au‖² and ‖QAu‖², Q the projection on the complement of the basis, of a unit vector there."""
    product, length = finite_product(operator, vector, count)
    accuracy.see(vector, product, length)
    inside = float(project(basis, product).square().sum()) if len(basis) else 0.0
    return numpy.array([dot(vector, product), length**2, max(length**2 - inside, 0.0)])


def require_enough(max_products: int, least: int) -> int:
    """Return a number of products, or refuse it where no interval can be had from so few."""
    if max_products < least:
        raise SettingsError(f"An interval takes at least {least} products, not {max_products}.", "Allow more products.")
    return max_products
