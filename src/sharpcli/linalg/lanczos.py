"""Extreme eigenvalues of a symmetric operator by thick-restart Lanczos, each with what is known of its error.

Every new vector is orthogonalised against the whole basis, so no eigenvalue is listed twice because
orthogonality was lost ("ghosts"); how orthogonal it is is watched, not assumed. The small problem
is solved in float64 on the CPU. The search stops when the residual of *each* wanted eigenvalue is
small against *that* eigenvalue, and a few products in the complement of the basis have shown that
nothing was missed. Then the ends of the spectrum are multiplied once more: that the fresh product is
the one the recurrence foretold is measured, not assumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy
import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import NumericalError, SettingsError
from sharpcli.linalg.certify import DETERMINISTIC, Trust, Verdict
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.krylov import Krylov, Matrix
from sharpcli.linalg.operator import SymmetricOperator, measured_error, product_error
from sharpcli.linalg.ranks import Interval, Rank
from sharpcli.linalg.reductions import dot, norm
from sharpcli.linalg.search import (
    Search,
    advance,
    assess,
    extremes,
    products_left,
    ranked,
    restart,
    state_of,
    taken_up,
    trust_of,
)
from sharpcli.linalg.wanted import Wanted

_LEAST_CONFIRMED = 0.01  # Probability with which each attempt to confirm may be wrong.
_FURTHER = 2  # Times as many more, where each tells much.
_SPARE = 8  # Basis vectors beyond the wanted ones without which restarts make no headway.


class Store(Protocol):
    """Keeps a search on disk; see `sharpcli.linalg.krylov_file`."""

    def restore(self, krylov: Krylov) -> dict[str, object]:
        """Bring back the decomposition, and return what else was kept; {} if there was nothing."""

    def restore_chain(self, complement: Complement) -> None:
        """Bring back the chain in the complement, if one was kept with the decomposition."""

    def write(self, krylov: Krylov, state: dict[str, object], complement: Complement | None) -> None:
        """Write the decomposition as it stands, a few plain values, and the chain in the complement if there is one."""


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Approximate eigenpairs of a symmetric operator: the wanted ones, best first.

    Attributes:
        wanted: What was looked for.
        values: Ritz values, or Rayleigh quotients of a fresh product where `verified`, shape (K,), float64, CPU.
        vectors: Unit vectors, shape (K, P).
        residuals: ‖Av - value·v‖ of the products that were made, shape (K,).
        verified: Which residuals were measured once more with a fresh product.
        verdicts: How far each may be trusted; see `Trust.verdict`.
        trust: Noise, rounding and orthogonality; its `radius` makes the intervals.
        intervals: For each, one that holds an eigenvalue; where `confirmed`, that of its very index, with probability
            `index_probability` over the random vectors.
        confirmed: Whether it does.
        known: For each, what is known of its index; see `linalg.ranks.Rank`.
        index_probability: 0.99 for one attempt to confirm, 0.01 less for each further one; where magnitude decides, it takes
            a bound at both ends, and is 0.02 less for each.
        ceiling: No eigenvalue is larger, with probability 0.99 over the start; never below a value that is listed.
        floor: No eigenvalue is smaller, with that probability.
        steps: Products spent on the search, `confirmations` more to see whether anything was missed, and
            `verifications` more to measure residuals.
        history: (products, largest residual relative to its eigenvalue) at each check.
        ended: "converged", "complete" (the space is exhausted), "products", "seconds" or "noise".
        krylov: The decomposition, for what else can be had from it.
        earlier_seconds: Spent on the same search before it was interrupted.
    """

    wanted: Wanted
    values: Tensor
    vectors: Tensor
    residuals: Tensor
    verified: tuple[bool, ...]
    verdicts: tuple[Verdict, ...]
    trust: Trust
    intervals: tuple[Interval, ...]
    confirmed: tuple[bool, ...]
    known: tuple[Rank, ...]
    index_probability: float
    ceiling: float
    floor: float
    steps: int
    confirmations: int
    verifications: int
    restarts: int
    history: tuple[tuple[int, float], ...]
    ended: str
    krylov: Krylov
    earlier_seconds: float = 0.0

    @property
    def converged(self) -> tuple[bool, ...]:
        """Which of them are certified."""
        return tuple(verdict == "certified" for verdict in self.verdicts)

    @property
    def ranks(self) -> tuple[int, ...]:
        """What each is listed under: 1 is the largest, -1 the smallest (for "LM": 1 is the largest in magnitude)."""
        return tuple(rank.index for rank in self.known)

    @property
    def by_index(self) -> tuple[Interval, ...]:
        """For each, an interval that holds the eigenvalue of that very index; infinite where nothing is known."""
        return tuple(rank.interval for rank in self.known)

    def interval(self, position: int) -> Interval:
        """Return the interval that an exact eigenvalue is certain to be in, for the pair at a position."""
        return self.intervals[position]


def eigenpairs(
    operator: SymmetricOperator,
    wanted: Wanted,
    *,
    tolerance: float = 1e-3,
    max_products: int = 200,
    max_seconds: float | None = None,
    memory: int | None = None,
    seed: int = 0,
    warm: Tensor | None = None,
    verify: str = "ends",
    confirm: int = 8,
    measure: Callable[[Tensor], Tensor] | None = None,
    store: Store | None = None,
) -> Eigenpairs:
    """Find extreme eigenvalues of a symmetric operator.

    Args:
        operator: Symmetric map on vectors of shape (P,).
        wanted: Which; at most P.
        tolerance: Stop when each residual ‖Av - λv‖ is below tolerance * |λ|, or 0.01 |λ| if that is less. No unit.
        max_products: Most products to spend on the search; those that verify come on top.
        max_seconds: Most seconds to spend on the search.
        memory: Bytes for basis vectors; with less than the search takes, it restarts from the best Ritz vectors.
        seed: Of the random start and of all probes.
        warm: Vectors (J, P) to start near to.
        verify: "ends" measures the residual of the first and, if any bottom one is wanted, the last pair with a
            fresh product; "all" that of every pair.
        confirm: Products to spend in the complement of the basis, to bound what might have been missed; up to three times as
            many where each still tells much. Where they do not suffice the values must stay as they are for some more steps.
        measure: How to multiply the first pair for that, in place of `operator @ v`.
        store: Where to keep the search; one that holds a part of it is gone on with.

    Raises:
        NumericalError: A product is not finite.
        SettingsError: Memory for too few vectors.

    References:
        Wu and Simon 2000, Thick-restart Lanczos method for large symmetric eigenvalue problems. Golub and Van
        Loan, Matrix Computations, 4th ed., section 10.1. Daniel, Gragg, Kaufman and Stewart 1976.
    """
    capacity, spare = _capacity(operator, wanted, max_products, memory, confirm)
    krylov = Krylov(operator, capacity=capacity, seed=seed, warm=warm)
    search = taken_up(store.restore(krylov) if store else {}, wanted, tolerance)
    complement: Complement | None = None
    began, earlier = time.monotonic(), search.seconds
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    spent = krylov.frame.products + search.confirmations
    likely = products_left(search, wanted, krylov.frame.products, confirm=confirm, most=max_products)
    with progress.task("search", total=spent + likely, units="products", done=spent) as shown:
        while not search.ended:
            if not (search.confirming and confirm):
                advance(krylov, search, wanted, tolerance)
            if search.confirming and confirm and not search.ended:
                complement = complement or _complement(krylov, search, store, confirm, spare)
                assess(krylov, complement, search, wanted, tolerance)
                complement = complement if search.confirming else None
            search.ended = search.ended or _exhausted(krylov, search, wanted, max_products, deadline)
            if search.ended:
                break
            shown.expect(products_left(search, wanted, krylov.frame.products, confirm=confirm, most=max_products))
            _spend(krylov, complement, search, wanted)
            search.error = max(search.error, product_error(operator))
            shown.advance(1, **_progress_fields(search))
            search.seconds = earlier + time.monotonic() - began
            if store is not None:
                store.write(krylov, state_of(search), complement)
    pairs = _finished(krylov, wanted, search, tolerance, verify, measure or operator.__matmul__)
    return replace(pairs, earlier_seconds=earlier)


def _progress_fields(search: Search) -> dict[str, float]:
    """Return what is worth telling of a search that is under way."""
    return {"residual": search.history[-1][1], "first": search.history[-1][2]} if search.history else {}


def _complement(krylov: Krylov, search: Search, store: Store | None, confirm: int, spare: int) -> Complement:
    """Return a new chain in the complement, or the one that was kept in the middle of an attempt."""
    going_on = search.chained and store is not None
    search.attempts += not going_on
    complement = Complement(krylov, capacity=confirm + spare, attempt=search.attempts, planned=confirm)
    if going_on and store is not None:
        store.restore_chain(complement)
    search.chained = True
    return complement


def _spend(krylov: Krylov, complement: Complement | None, search: Search, wanted: Wanted) -> None:
    """Spend one product, where it is needed."""
    if complement is not None:
        complement.step()
        search.confirmations += 1
        return
    search.chained = False
    if krylov.is_full:
        restart(krylov, search, wanted)
    krylov.step()


def _capacity(
    operator: SymmetricOperator, wanted: Wanted, max_products: int, memory: int | None, confirm: int
) -> tuple[int, int]:
    """Return how many basis vectors to make room for, all or as many as memory holds, and how many more in the complement."""
    dimension, more = operator.shape[0], _FURTHER * confirm
    most = min(dimension, max_products)
    if memory is None:
        return max(most, 1), more
    each = dimension * torch.finfo(operator.dtype).bits // 8
    working = confirm + 4  # Vectors beside the basis.
    fits, least = memory // each - working, min(most, wanted.total + _SPARE)
    if fits < least:
        enough = math.ceil((least + working) * each / 2**20)
        raise SettingsError(
            f"{memory / 2**20:.4g} MiB hold {max(fits, 0)} basis vectors of {dimension} numbers, and {least} are needed.",
            f"Ask for fewer eigenvalues, or give at least {enough} MiB.",
            remedy=f"memory={enough}MiB",
        )
    return min(most, fits), min(more, max(fits - most, 0))


def _exhausted(krylov: Krylov, search: Search, wanted: Wanted, max_products: int, deadline: float | None) -> str:
    if krylov.frame.products + search.confirmations >= max_products:
        return "products"
    late = deadline is not None and time.monotonic() >= deadline and krylov.size >= wanted.total
    return "seconds" if late else ""


def _finished(
    krylov: Krylov,
    wanted: Wanted,
    search: Search,
    tolerance: float,
    verify: str,
    measure: Callable[[Tensor], Tensor],
) -> Eigenpairs:
    """Assemble the wanted pairs and measure the ends, or all, with fresh products."""
    krylov.inspect()
    ritz, estimates, weights = krylov.ritz()
    chosen = wanted.select(ritz)
    values, residuals = ritz[chosen].copy(), estimates[chosen].copy()
    vectors = krylov.vectors(weights[:, chosen])
    fresh = range(len(chosen)) if verify == "all" else _ends(chosen, wanted)
    noise = _verified(krylov, search, fresh, (values, residuals, vectors, weights[:, chosen]), measure)
    _measure(krylov, search, values, vectors)
    widest = float(numpy.abs([*ritz, *values]).max())
    krylov.frame = replace(krylov.frame, scale=max(krylov.frame.scale, widest))
    trust = trust_of(krylov, search, noise)
    known, shown, chances = _indexed(krylov, wanted, search, trust, tolerance, (values.tolist(), residuals))
    slack = trust.noise + trust.rounding
    floor, ceiling = extremes(krylov, slack)
    return Eigenpairs(
        wanted=wanted,
        values=torch.from_numpy(values),
        vectors=vectors,
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
        index_probability=1 - _LEAST_CONFIRMED * chances,
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


def _verified(
    krylov: Krylov,
    search: Search,
    fresh: Sequence[int],
    pairs: tuple[Matrix, Matrix, Tensor, Matrix],
    measure: Callable[[Tensor], Tensor],
) -> float:
    """Measure some values and residuals anew, in their place, and return the noise that shows.

    Args:
        krylov: The decomposition.
        search: Notes whether a product that is far off comes out alike when it is made again.
        fresh: Positions of what is measured.
        pairs: Values (K,), residuals (K,), vectors (K, P) and their weights (m, K).
        measure: How to multiply the first.

    Raises:
        NumericalError: A product is not finite.
    """
    values, residuals, vectors, weights = pairs
    noise = float(krylov.frame.asymmetric(values, weights).max())
    with progress.task("verify", total=len(fresh), units="products") as shown:
        for position in fresh:
            vector = vectors[position]
            product = measure(vector) if position == 0 else krylov.operator @ vector
            # A unit vector has that length to 6e-8 in float32; the quotient does not depend on it.
            values[position] = dot(vector, product) / norm(vector) ** 2
            residuals[position] = norm(product - float(values[position]) * vector)
            off = norm(product - krylov.predicted(weights[:, position]))
            if position == 0 and off > DETERMINISTIC * krylov.frame.scale:  # Is it chance, or are digits lost?
                krylov.frame = replace(krylov.frame, products=krylov.frame.products + 1)
                search.repeated = norm(measure(vector) - product) / krylov.frame.scale
            noise = max(noise, off)
            shown.advance()
    if not numpy.isfinite([*values, *residuals]).all():
        raise NumericalError(
            "A Hessian-vector product is not finite.", "Check the weights, or try float64.", remedy="dtype=float64"
        )
    return noise


def _indexed(
    krylov: Krylov,
    wanted: Wanted,
    search: Search,
    trust: Trust,
    tolerance: float,
    pairs: tuple[list[float], Matrix],
) -> tuple[list[Rank], list[Interval | None], int]:
    """Return what is known of each index, the interval that may be shown for it, and how many chances there are to be wrong.

    The ceiling is one more bound that may fail, so it is used only where it tells more than the complement.
    """
    values, residuals = pairs

    def told(capped: bool) -> tuple[list[Rank], list[Interval | None]]:
        known = ranked(krylov, search, wanted, trust, residuals, capped=capped, values=values)
        rows = zip(known, values, residuals.tolist(), strict=True)
        return known, [
            rank.shown(value, trust.radius(residual), trust.reach(value, residual, tolerance)) for rank, value, residual in rows
        ]

    (known, shown), capped = told(False), False
    if None in shown:
        more = told(True)
        capped = search.ends is None or more[1].count(None) < shown.count(None)
        known, shown = more if capped else (known, shown)
    return known, shown, max(search.attempts + capped, 1) * (2 if wanted.which == "LM" else 1)


def _measure(krylov: Krylov, search: Search, values: Matrix, vectors: Tensor) -> None:
    """Have the operator measure its error along the first vector, the last one and the sum of all, which has a part of each."""
    lengths, last = numpy.abs(values), len(vectors) - 1
    along = [(vectors[0], lengths[0])]
    if last:
        total = vectors.sum(0)
        along += [(vectors[last], lengths[last]), (total / norm(total), numpy.sqrt((lengths**2).mean()))]
    errors = [measured_error(krylov.operator, vector, float(length)) for vector, length in along]
    search.measured = max(search.measured or 0.0, *errors)


def _ends(chosen: Sequence[int], wanted: Wanted) -> list[int]:
    """Return the positions of the first pair and, if a bottom one is wanted, of the last."""
    last = len(chosen) - 1
    return [0, last] if wanted.bottom and last > 0 else [0]
