"""When a search for eigenvalues is over: what has settled, what might have been missed, and what noise leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, TypedDict

import numpy
from torch import Tensor, finfo

from sharpcli.files import Range
from sharpcli.linalg.ceiling import ends_of
from sharpcli.linalg.certify import DETERMINISTIC, Trust, rounding_of
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.krylov import Krylov, Matrix
from sharpcli.linalg.operator import measured_error, product_error
from sharpcli.linalg.ranks import Interval, Rank, ranks
from sharpcli.linalg.wanted import Wanted as Wanted
from sharpcli.progress import left_of_fall

_GUARD = 3  # Steps of each chain for which the wanted values must stay as they are, where nothing better confirms them.
_LARGE = 64  # Ritz problems up to this size are solved at every step, larger ones at every third.
_LOOK = 2  # Steps in the complement before the first look at what they show.
_LOOSEST = 1e-2  # A larger residual does not tell which eigenvalue is near, so a larger tolerance saves nothing.
_SUSPICIOUS = 1e-4  # Asymmetry in parts of ‖A‖ that no rounding explains: there the last product is repeated.
_DOUBTFUL = 10  # Asymmetry in units of rounding from which on the operator is asked what its error is.
_DROWNED = 1.5  # Times its part that is noise, up to which a residual is not worth another step.
_PER_VALUE, _AT_FIRST = 2, 10  # Products that a search usually takes.
_PATIENCE = 2  # Times the products of a settled search, up to which more go into telling its indices.

_Count = Annotated[int, Range(0)]
_Number = Annotated[float, Range(infinite=True)]

UNKNOWN: Interval = (-math.inf, math.inf)


@dataclass
class Search:
    """How far a search has come; plain values, so that it can be kept and taken up again.

    Attributes:
        history: [products, largest residual relative to its eigenvalue, first value] at each check.
        falls: [products, how many powers of e all residuals together are above what is allowed] at each check.
        settled: The wanted values when they were last all within tolerance, at `settled_at` products.
        confirming: Whether products go into the complement, to see whether anything was missed.
        chained: Whether the chain there has begun.
        attempts: How often that was begun.
        confirmations: Products spent on it.
        ends: What no eigenvalue within the complement is below and above, as far as it was looked at since the last restart:
            the complement of a larger basis is a part of it.
        hold: Steps to take before the next check.
        restarts: Of the basis.
        repeated: How far a product that was repeated was off in parts of ‖A‖; None if none was.
        measured: Error of products as the operator measures it itself; None if it was not asked.
        error: Largest error of a product that the operator has told of, also before an interruption.
        ended: Why the search is over.
        goal: What was wanted.
        seconds: Spent on it, also before an interruption.
    """

    history: list[list[float]] = field(default_factory=list)
    falls: list[list[float]] = field(default_factory=list)
    settled: list[float] | None = None
    settled_at: int = 0
    confirming: bool = False
    chained: bool = False
    attempts: int = 0
    confirmations: int = 0
    ends: list[float] | None = None
    hold: int = 0
    restarts: int = 0
    repeated: float | None = None
    measured: float | None = None
    error: float = 0.0
    ended: str = ""
    goal: list[float | str] = field(default_factory=list)
    seconds: float = 0.0


class SearchState(TypedDict):
    """The fields of a `Search`, as they are kept."""

    history: list[tuple[_Count, _Number, float]]
    settled: list[float] | None
    settled_at: _Count
    confirming: bool
    chained: bool
    attempts: _Count
    confirmations: _Count
    ends: tuple[_Number, _Number] | None
    hold: _Count
    restarts: _Count
    repeated: float | None
    measured: float | None
    error: _Number
    ended: str
    goal: tuple[_Count, str, _Count, float]
    seconds: Annotated[float, Range(0)]


def state_of(search: Search) -> dict[str, object]:
    """Return what of a search is kept; what only tells of progress begins anew."""
    return {name: getattr(search, name) for name in SearchState.__annotations__}


def taken_up(kept: dict[str, object], wanted: Wanted, tolerance: float) -> Search:
    """Return the search that was kept; if other eigenvalues are wanted now, its products serve but not its conclusions."""
    goal: list[float | str] = [wanted.count, wanted.which, wanted.bottom, tolerance]
    if kept.get("goal") == goal:
        own = {name: value for name, value in kept.items() if name in SearchState.__annotations__}
        return Search(**own)  # type: ignore[arg-type]
    counted = {name: int(str(kept.get(name, 0))) for name in ("restarts", "attempts", "confirmations")}
    measured = {name: float(str(kept.get(name, 0.0))) for name in ("error", "seconds")}
    return Search(**counted, **measured, goal=goal)  # type: ignore[arg-type]


def advance(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> None:
    """Look at the Ritz values if it is time to, and decide what is to be done next."""
    frame = krylov.frame
    if krylov.is_complete:
        search.ended = "complete"
    search.hold = max(search.hold - 1, 0)
    if search.hold or krylov.size < min(wanted.total + 1, krylov.dimension):
        return
    if krylov.size > _LARGE and frame.products % 3 and not krylov.is_complete:
        return
    if _is_noise(krylov, search):
        search.ended = "noise"
        return
    _ask(krylov, search, wanted)
    values, ratios, allowed = _standing(krylov, search, wanted, tolerance)
    worst = float(ratios.max())
    if not search.history or search.history[-1][0] < frame.products:
        search.history.append([frame.products, worst * min(tolerance, _LOOSEST), float(values[0])])
        search.falls.append([frame.products, float(numpy.log(ratios.clip(min=1.0)).sum())])
    if worst > 1 or krylov.is_complete:
        search.settled = None
    elif search.settled is None or bool((numpy.abs(values - numpy.array(search.settled)) > allowed).any()):
        search.settled, search.settled_at = values.tolist(), frame.products
        search.confirming = wanted.total > 1
    elif frame.products >= search.settled_at + _GUARD * len(frame.waiting):
        _conclude(krylov, search, wanted, tolerance)


def products_left(search: Search, wanted: Wanted, products: int, *, confirm: int, most: int) -> float:
    """Return how many products are likely to be left: as the residuals fall, not as many as are allowed at most.

    Args:
        search: So far.
        wanted: What is looked for.
        products: Of the search so far, those that confirm not counted.
        confirm: Products to confirm with, where nothing more is needed.
        most: Products that are allowed.
    """
    if search.confirming:
        left = float(confirm)
    else:
        falling = left_of_fall(search.falls)
        usual = max(_PER_VALUE * wanted.total + _AT_FIRST - products, 1.0)  # Until more is known.
        left = (usual if falling is None else falling) + (confirm if wanted.total > 1 else _GUARD)
    return max(min(left, most - products - search.confirmations), 0.0)


def _conclude(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> None:
    """End a search whose values stay, unless more can still be said about their indices.

    One value needs no look at the complement where the ceiling is near enough. Several had theirs; a basis that has grown
    since then may tell what it did not, as long as the bound of the complement is below the values.
    """
    if not doubted(krylov, search, wanted, tolerance):
        search.ended = "converged"
    elif wanted.total == 1 and not search.attempts:
        search.confirming = True
    elif krylov.frame.products >= _PATIENCE * search.settled_at or not _has_gaps(krylov, search, wanted, tolerance):
        search.ended = "converged"


def assess(krylov: Krylov, complement: Complement, search: Search, wanted: Wanted, tolerance: float) -> None:
    """Look at what the complement has shown: nothing that is missing, something, or not enough to tell."""
    if complement.size < min(_LOOK, complement.dimension, len(complement.rows)) and complement.waiting is not None:
        return
    _, _, allowed = _standing(krylov, search, wanted, tolerance)
    missing = _missing(krylov, complement, wanted, allowed)
    search.ends = list(complement.ends())
    if missing is not None:
        krylov.inject(missing)
        search.settled, search.confirming, search.hold = None, False, len(krylov.frame.waiting) + 1
        return
    unclear = doubted(krylov, search, wanted, tolerance)
    if not unclear:
        search.ended = "converged"
    elif complement.is_spent(wanted.ends(unclear)):
        search.confirming = False  # Not clear: then the guard decides.


def trust_of(krylov: Krylov, search: Search, noise: float = 0.0) -> Trust:
    """Return what products are good for as far as is known; `noise` is what was measured beside the recurrence."""
    frame, dtype, size = krylov.frame, krylov.operator.dtype, krylov.dimension
    rounding = rounding_of(dtype, frame.scale, size=size, measured=search.measured or 0.0)
    return Trust(
        scale=frame.scale,
        rounding=rounding,
        noise=max(noise, frame.asymmetry) + max(search.error, product_error(krylov.operator)),
        orthogonality=frame.orthogonality,
        repeats=search.repeated is not None and search.repeated <= _SUSPICIOUS,
        differs=search.repeated is not None and search.repeated > _SUSPICIOUS,
        precision=_precision(krylov),
    )


def bounds_of(krylov: Krylov, search: Search) -> Interval:
    """Return what is known of the eigenvalues within the complement of the basis."""
    if krylov.is_complete:
        return math.inf, -math.inf
    return UNKNOWN if search.ends is None else (search.ends[0], search.ends[1])


def ranked(
    krylov: Krylov,
    search: Search,
    wanted: Wanted,
    trust: Trust,
    residuals: Matrix,
    *,
    capped: bool,
    values: list[float] | None = None,
) -> list[Rank]:
    """Return what is known of the index of each wanted value, by the complement and, if `capped`, by the ceiling and floor."""
    radii, slack = [trust.radius(float(one)) for one in residuals], trust.slack(krylov.size)
    whole = extremes(krylov, slack) if capped else UNKNOWN
    return ranks(krylov.frame, wanted, radii, bounds_of(krylov, search), slack, everything=whole, values=values)


def extremes(krylov: Krylov, slack: float) -> Interval:
    """Return what no eigenvalue is below and above, each with probability 0.99, and never within what was seen."""
    frame, (values, _, _) = krylov.frame, krylov.ritz()
    lower, upper = ends_of(frame.diagonal, frame.off_diagonal, dimension=krylov.dimension, share=krylov.share)
    return min(lower, float(values[0])) - slack, max(upper, float(values[-1])) + slack


def doubted(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> list[int]:
    """Return the positions of the wanted values whose index is not told by as much as is asked for."""
    krylov.inspect()
    trust = trust_of(krylov, search)
    ritz, residuals, _ = krylov.ritz()
    places = wanted.select(ritz)
    ranking = ranked(krylov, search, wanted, trust, residuals[places], capped=True)
    return [
        position
        for position, (rank, value, residual) in enumerate(zip(ranking, ritz[places], residuals[places], strict=True))
        if rank.shown(value, trust.radius(residual), trust.reach(value, residual, tolerance)) is None
    ]


def _has_gaps(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> bool:
    """Tell whether all values of a doubtful index are beyond what the complement may hold, so that smaller residuals tell."""
    if search.ends is None:
        return False
    ritz, _, _ = krylov.ritz()
    values = ritz[wanted.select(ritz)]
    slack = trust_of(krylov, search).slack(krylov.size)
    return not any(
        search.ends[0] - slack < values[place] < search.ends[1] + slack for place in doubted(krylov, search, wanted, tolerance)
    )


def _missing(krylov: Krylov, complement: Complement, wanted: Wanted, allowed: Matrix) -> Tensor | None:
    """Return a vector of the complement whose Ritz value belongs among the wanted ones, if there is one."""
    if not complement.size:
        return None
    known, _, _ = krylov.ritz()
    seen, weights = complement.ritz()
    everything = numpy.concatenate([known, seen])
    order = numpy.argsort(everything, kind="stable")
    for place, mine, limit in zip(wanted.select(everything[order]), wanted.select(known), allowed, strict=True):
        if order[place] >= len(known) and abs(everything[order[place]] - known[mine]) > limit:
            return complement.vector(weights[:, order[place] - len(known)])
    return None


def _standing(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> tuple[Matrix, Matrix, Matrix]:
    """Return the wanted Ritz values, their residuals in parts of what is allowed, and that.

    With noise and rounding a residual is to be within tolerance, if it can be. Where it cannot, it is to come down to what
    they leave: more steps would not make it less.
    """
    ritz, residuals, weights = krylov.ritz()
    places, floor = wanted.select(ritz), trust_of(krylov, search).floor()
    asked = min(tolerance, _LOOSEST) * numpy.abs(ritz[places])
    allowed: Matrix = numpy.maximum(numpy.maximum(asked - floor, asked / 2), max(floor, numpy.finfo(float).tiny))
    noise = krylov.frame.asymmetric(ritz[places], weights[:, places])
    return ritz[places], residuals[places] / numpy.maximum(allowed, _DROWNED * noise), allowed


def _ask(krylov: Krylov, search: Search, wanted: Wanted) -> None:
    """Have the operator measure its own error, once, where asymmetry shows that it is more than the usual rounding."""
    frame = krylov.frame
    if search.measured is not None or frame.asymmetry <= _DOUBTFUL * _precision(krylov) * frame.scale:
        return
    ritz, _, weights = krylov.ritz()
    place = wanted.select(ritz)[0]
    search.measured = measured_error(krylov.operator, krylov.vectors(weights[:, [place]])[0], abs(float(ritz[place])))


def _precision(krylov: Krylov) -> float:
    return float(finfo(krylov.operator.dtype).eps)


def _is_noise(krylov: Krylov, search: Search) -> bool:
    """Tell whether there is no one matrix behind the products, or too little of it is left in their digits.

    Asymmetry comes from an operator that answers otherwise each time, or from few digits; once, that costs a product.
    """
    frame = krylov.frame
    if frame.asymmetry <= _SUSPICIOUS * frame.scale:
        return False
    if search.repeated is None:
        search.repeated = krylov.repeat() / frame.scale
    return search.repeated > _SUSPICIOUS or frame.asymmetry > DETERMINISTIC * frame.scale


def restart(krylov: Krylov, search: Search, wanted: Wanted) -> None:
    """Keep the wanted Ritz vectors and about half of the others that are nearest to them."""
    values, _, weights = krylov.ritz()
    spare = (krylov.size - wanted.total) // 2
    krylov.restart(weights[:, sorted(set(wanted.enlarged(spare).select(values)))])
    search.restarts += 1
    search.ends = None  # What was left out is in the complement now.
