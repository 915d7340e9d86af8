"""Fresh products for the pairs that a search found: residuals are measured, not taken from the recurrence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy
import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import NumericalError
from sharpcli.linalg.certify import DETERMINISTIC, Trust
from sharpcli.linalg.confirmation import ranks_of, spectrum_bounds, trust_of
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.krylov import Krylov, Matrix
from sharpcli.linalg.operator import measured_error
from sharpcli.linalg.ranks import Interval, Rank
from sharpcli.linalg.search_state import Search
from sharpcli.linalg.wanted import Wanted

_ATTEMPT_RISK = 0.01  # Probability that an attempt to confirm is wrong.


def verified_pairs(
    krylov: Krylov,
    wanted: Wanted,
    search: Search,
    tolerance: float,
    verify: str,
    measure: Callable[[Tensor], Tensor],
) -> Eigenpairs:
    """Return the wanted pairs after measuring the first and last, or all, with fresh products.

    Args:
        krylov: The decomposition.
        wanted: Which pairs.
        search: Its state, at its end.
        tolerance: See `lanczos.eigenpairs`.
        verify: "ends" or "all".
        measure: Product that verifies the first pair.

    Raises:
        NumericalError: A product is not finite.
    """
    krylov.inspect()
    ritz, estimates, weights = krylov.ritz()
    chosen = wanted.select(ritz)
    values, residuals = ritz[chosen].copy(), estimates[chosen].copy()
    vectors = krylov.vectors(weights[:, chosen])
    fresh = range(len(chosen)) if verify == "all" else _end_positions(chosen, wanted)
    noise = _remeasured(krylov, search, fresh, (values, residuals, vectors, weights[:, chosen]), measure)
    _measure_operator_error(krylov, search, values, vectors)
    widest = float(numpy.abs([*ritz, *values]).max())
    krylov.frame = replace(krylov.frame, scale=max(krylov.frame.scale, widest))
    trust = trust_of(krylov, search, noise)
    known, shown, chances = _index_intervals(krylov, wanted, search, trust, tolerance, (values.tolist(), residuals))
    slack = trust.noise + trust.rounding
    floor, ceiling = spectrum_bounds(krylov, slack)
    return Eigenpairs(
        wanted=wanted,
        values=torch.from_numpy(values),
        vectors=krylov.space.whole(vectors),
        residuals=torch.from_numpy(residuals),
        verified=tuple(position in fresh for position in range(len(chosen))),
        verdicts=tuple(
            trust.verdict(value, residual, tolerance, finished=search.ended in ("converged", "complete"))
            for value, residual in zip(values, residuals, strict=True)
        ),
        trust=trust,
        intervals=tuple(
            interval or (value - trust.radius(residual), value + trust.radius(residual))
            for interval, value, residual in zip(shown, values.tolist(), residuals.tolist(), strict=True)
        ),
        confirmed=tuple(interval is not None for interval in shown),
        known=tuple(known),
        index_probability=1 - _ATTEMPT_RISK * chances,
        ceiling=max(ceiling, float(values.max()) + slack),
        floor=min(floor, float(values.min()) - slack),
        steps=krylov.frame.products,
        confirmations=search.confirmations,
        verifications=len(fresh),
        restarts=search.restarts,
        history=tuple((int(products), residual) for products, residual, _ in search.history),
        ended=search.ended,
        krylov=krylov,
    )


def _remeasured(
    krylov: Krylov,
    search: Search,
    fresh: Sequence[int],
    pairs: tuple[Matrix, Matrix, Tensor, Matrix],
    measure: Callable[[Tensor], Tensor],
) -> float:
    """Measure some values and residuals again, in place, and return the largest error of a product.

    Args:
        krylov: The decomposition.
        search: Receives the difference of a repeated product, if the first one is far off.
        fresh: Positions to measure.
        pairs: Values (K,), residuals (K,), vectors (K, P) and their weights (m, K).
        measure: Product for the first position.

    Raises:
        NumericalError: A product is not finite.
    """
    (values, residuals, vectors, weights), space = pairs, krylov.space
    noise = float(krylov.frame.asymmetric(values, weights).max())
    with progress.task("verify", total=len(fresh), units="products") as shown:
        for position in fresh:
            vector = vectors[position]
            product = measure(vector) if position == 0 else krylov.operator @ vector
            # A unit vector has that length to 6e-8 in float32; the quotient does not depend on it.
            values[position] = space.dot(vector, product) / space.norm(vector) ** 2
            residuals[position] = space.norm(product - float(values[position]) * vector)
            off = space.norm(product - krylov.predicted(weights[:, position]))
            if position == 0 and off > DETERMINISTIC * krylov.frame.scale:  # Random, or of low precision?
                krylov.frame = replace(krylov.frame, products=krylov.frame.products + 1)
                search.repeated = space.norm(measure(vector) - product) / krylov.frame.scale
            noise = max(noise, off)
            shown.advance()
    if not numpy.isfinite([*values, *residuals]).all():
        raise NumericalError(
            "A Hessian-vector product is not finite.", "Check the weights, or try float64.", remedy="dtype=float64"
        )
    return noise


def _index_intervals(
    krylov: Krylov,
    wanted: Wanted,
    search: Search,
    trust: Trust,
    tolerance: float,
    pairs: tuple[list[float], Matrix],
) -> tuple[list[Rank], list[Interval | None], int]:
    """Return what is known of each index, the interval to show for it, and the number of bounds that may fail.

    The ceiling is one more bound that may fail, so it is used only if it confirms more than the complement does.
    """
    values, residuals = pairs

    def attempt(capped: bool) -> tuple[list[Rank], list[Interval | None]]:
        known = ranks_of(krylov, search, wanted, trust, residuals, capped=capped, values=values)
        rows = zip(known, values, residuals.tolist(), strict=True)
        return known, [
            rank.shown(value, trust.radius(residual), trust.reach(value, residual, tolerance)) for rank, value, residual in rows
        ]

    (known, shown), capped = attempt(False), False
    if None in shown:
        more = attempt(True)
        capped = search.ends is None or more[1].count(None) < shown.count(None)
        known, shown = more if capped else (known, shown)
    return known, shown, max(search.attempts + capped, 1) * (2 if wanted.which == "LM" else 1)


def _measure_operator_error(krylov: Krylov, search: Search, values: Matrix, vectors: Tensor) -> None:
    """Let the operator measure its error along the first vector, the last one and the sum of all."""
    lengths, last = numpy.abs(values), len(vectors) - 1
    along = [(vectors[0], lengths[0])]
    if last:
        total = vectors.sum(0)
        along += [(vectors[last], lengths[last]), (total / krylov.space.norm(total), numpy.sqrt((lengths**2).mean()))]
    errors = [measured_error(krylov.operator, vector, float(length)) for vector, length in along]
    search.measured = max(search.measured or 0.0, *errors)


def _end_positions(chosen: Sequence[int], wanted: Wanted) -> list[int]:
    """Return the positions of the first pair and, if a bottom one is wanted, of the last."""
    last = len(chosen) - 1
    return [0, last] if wanted.bottom and last > 0 else [0]
