"""When a search for eigenvalues is over: what is wanted, what has settled, and what might have been missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor

from sharpcli.linalg.certify import rounding_of
from sharpcli.linalg.complement import Complement, by_index
from sharpcli.linalg.krylov import Krylov, Matrix

_GUARD = 3  # Steps of each chain for which the wanted values must stay as they are, where nothing better confirms them.
_LARGE = 64  # Ritz problems up to this size are solved at every step, larger ones at every third.
_LOOK = 2  # Steps in the complement before the first look at what they show.
_LOOSEST = 1e-2  # A larger residual does not tell which eigenvalue is near, so a larger tolerance saves nothing.
_SUSPICIOUS = 1e-4  # Asymmetry in parts of ‖A‖ that no rounding explains: there the last product is repeated.


@dataclass(frozen=True)
class Wanted:
    """Which eigenvalues are looked for.

    Attributes:
        count: K, how many of those that `which` names.
        which: "LA" largest algebraic, "SA" smallest algebraic, "LM" largest magnitude.
        bottom: How many of the smallest algebraic beside them.
    """

    count: int
    which: str = "LA"
    bottom: int = 0

    @property
    def total(self) -> int:
        """Number of eigenvalues wanted."""
        return self.count + self.bottom

    def select(self, values: Matrix) -> list[int]:
        """Return the places of the wanted ones among ascending values: best first, then the bottom ones, smallest last."""
        size = len(values)
        down = list(range(size - 1, -1, -1))
        order = {"LA": down, "SA": down[::-1], "LM": sorted(down, key=lambda place: -abs(values[place]))}[self.which]
        return order[: self.count] + (down[-self.bottom :] if self.bottom else [])

    def ranks(self) -> list[int]:
        """Return the index of each selected one: 1 is the largest (LM: in magnitude), -1 the smallest."""
        first = range(-1, -self.count - 1, -1) if self.which == "SA" else range(1, self.count + 1)
        return [*first, *range(-self.bottom, 0)]

    def sides(self, values: Matrix, places: list[int]) -> list[bool]:
        """Return whether each selected one is counted from the largest eigenvalue, not from the smallest."""
        first = [self.which == "LA" or (self.which == "LM" and values[place] > 0) for place in places[: self.count]]
        return first + [False] * self.bottom

    def beyond(self, values: Matrix, places: list[int]) -> list[tuple[int, bool]]:
        """Return the places of what comes next on either side, and which; [] unless magnitude decides.

        An eigenvalue that was missed at one end may be larger than one that is listed from the other.
        """
        left = sorted(set(range(len(values))) - set(places))
        return [(left[-1], True), (left[0], False)] if self.which == "LM" and left else []

    def reach(self, values: Matrix, places: list[int], bounds: Mapping[int, tuple[float, float]]) -> float:
        """Return how large in magnitude what comes next on either side may be, by bounds on eigenvalues by their index."""
        found = [
            abs(bounds.get(indices([place], [top], len(values))[0], (-numpy.inf, numpy.inf))[top])
            for place, top in self.beyond(values, places)
        ]
        return max(found, default=0.0)

    def enlarged(self, extra: int) -> Wanted:
        """Return a wish for so many more, at the ends that are wanted."""
        below = extra // 2 if self.bottom else 0
        return Wanted(self.count + extra - below, self.which, self.bottom + below)


@dataclass
class Search:
    """How far a search has come; plain values, so that it can be kept and taken up again.

    Attributes:
        history: [products, largest residual relative to its eigenvalue, first value] at each check.
        settled: The wanted values when they were last all within tolerance, at `settled_at` products.
        confirming: Whether products go into the complement, to see whether anything was missed.
        chained: Whether the chain there has begun.
        attempts: How often that was begun.
        confirmations: Products spent on it.
        intervals: [index, low, high] before noise and rounding, with the index from the top, or negative from the bottom.
        hold: Steps to take before the next check.
        restarts: Of the basis.
        repeated: Whether a product was repeated to tell noise from rounding.
        ended: Why the search is over.
        goal: What was wanted.
    """

    history: list[list[float]] = field(default_factory=list)
    settled: list[float] | None = None
    settled_at: int = 0
    confirming: bool = False
    chained: bool = False
    attempts: int = 0
    confirmations: int = 0
    intervals: list[list[float]] = field(default_factory=list)
    hold: int = 0
    restarts: int = 0
    repeated: bool = False
    ended: str = ""
    goal: list[float | str] = field(default_factory=list)


def taken_up(kept: dict[str, object], wanted: Wanted, tolerance: float) -> Search:
    """Return the search that was kept; if other eigenvalues are wanted now, its products serve but not its conclusions."""
    goal: list[float | str] = [wanted.count, wanted.which, wanted.bottom, tolerance]
    if kept.get("goal") == goal:
        return Search(**kept)  # type: ignore[arg-type]
    counted = {name: int(str(kept.get(name, 0))) for name in ("restarts", "attempts", "confirmations")}
    return Search(**counted, goal=goal)  # type: ignore[arg-type]


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
    values, worst, allowed = _standing(krylov, wanted, tolerance)
    if not search.history or search.history[-1][0] < frame.products:
        search.history.append([frame.products, worst * min(tolerance, _LOOSEST), float(values[0])])
    if worst > 1 or krylov.is_complete:
        search.settled = None
    elif search.settled is None or bool((numpy.abs(values - numpy.array(search.settled)) > allowed).any()):
        search.settled, search.settled_at = values.tolist(), frame.products
        search.confirming = wanted.total > 1
    elif frame.products >= search.settled_at + _GUARD * len(frame.waiting):
        search.ended = "converged"


def look(krylov: Krylov, rest: Complement, search: Search, wanted: Wanted, tolerance: float) -> None:
    """Look at what the complement has shown: nothing that is missing, something, or not enough to tell."""
    if rest.size < min(_LOOK, rest.dimension, len(rest.rows)) and rest.waiting is not None:
        return
    values, _, allowed = _standing(krylov, wanted, tolerance)
    missing = _missing(krylov, rest, wanted, allowed)
    if missing is not None:
        krylov.inject(missing)
        search.settled, search.confirming, search.hold = None, False, len(krylov.frame.waiting) + 1
        return
    ritz, _, _ = krylov.ritz()
    places = wanted.select(ritz)
    beyond = wanted.beyond(ritz, places)
    asked = [*places, *(place for place, _ in beyond)]
    sides = [*wanted.sides(ritz, places), *(top for _, top in beyond)]
    intervals = by_index(krylov.frame, asked, sides, rest.ends())
    search.intervals = [
        [float(index), low, high] for index, (low, high) in zip(indices(asked, sides, len(ritz)), intervals, strict=True)
    ]
    reach = wanted.reach(ritz, places, {int(index): (low, high) for index, low, high in search.intervals})
    listed = [abs(float(ritz[place])) for place in places[: wanted.count]]
    clear = all(reach <= size + limit for size, limit in zip(listed, allowed, strict=False))
    if clear and all(high - low <= 2 * limit for (low, high), limit in zip(intervals, allowed, strict=False)):
        search.ended = "converged"
    elif rest.waiting is None or rest.size == len(rest.rows):
        search.confirming = False  # Not clear: then the guard decides.


def indices(places: list[int], from_top: list[bool], size: int) -> list[int]:
    """Return the algebraic index of places among ascending Ritz values: 1 is the largest, -1 the smallest."""
    return [size - place if top else -place - 1 for place, top in zip(places, from_top, strict=True)]


def _missing(krylov: Krylov, rest: Complement, wanted: Wanted, allowed: Matrix) -> Tensor | None:
    """Return a vector of the complement whose Ritz value belongs among the wanted ones, if there is one."""
    if not rest.size:
        return None
    known, _, _ = krylov.ritz()
    seen, weights = rest.ritz()
    everything = numpy.concatenate([known, seen])
    order = numpy.argsort(everything, kind="stable")
    for place, mine, limit in zip(wanted.select(everything[order]), wanted.select(known), allowed, strict=True):
        if order[place] >= len(known) and abs(everything[order[place]] - known[mine]) > limit:
            return rest.vector(weights[:, order[place] - len(known)])
    return None


def _standing(krylov: Krylov, wanted: Wanted, tolerance: float) -> tuple[Matrix, float, Matrix]:
    """Return the wanted Ritz values, the largest of their residuals in parts of what is allowed, and that."""
    ritz, residuals, _ = krylov.ritz()
    places = wanted.select(ritz)
    allowed = _allowed(ritz[places], tolerance, krylov.frame.scale, krylov.operator.dtype)
    return ritz[places], float((residuals[places] / allowed).max()), allowed


def _is_noise(krylov: Krylov, search: Search) -> bool:
    """Tell whether asymmetry comes from an operator that answers otherwise each time; at most once that costs a product."""
    limit = _SUSPICIOUS * krylov.frame.scale
    if search.repeated or krylov.frame.asymmetry <= limit:
        return False
    search.repeated = True
    return krylov.repeat() > limit


def restart(krylov: Krylov, wanted: Wanted) -> None:
    """Keep the wanted Ritz vectors and about half of the others that are nearest to them."""
    values, _, weights = krylov.ritz()
    spare = (krylov.size - wanted.total) // 2
    krylov.restart(weights[:, sorted(set(wanted.enlarged(spare).select(values)))])


def _allowed(values: Matrix, tolerance: float, scale: float, dtype: torch.dtype) -> Matrix:
    """Return the residual allowed for each eigenvalue: with rounding it is to be within tolerance, if it can be."""
    rounding = 2 * rounding_of(dtype, max(scale, torch.finfo(dtype).tiny))
    asked = min(tolerance, _LOOSEST) * numpy.abs(values)
    allowed: Matrix = numpy.maximum(numpy.maximum(asked - rounding, asked / 2), rounding)
    return allowed
