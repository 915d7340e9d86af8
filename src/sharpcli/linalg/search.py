"""When a search for eigenvalues is over: what is wanted, what has settled, and what might have been missed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy
import torch

from sharpcli.linalg.certify import rounding_of
from sharpcli.linalg.krylov import Krylov, Matrix

_GUARD = 3  # Steps of each chain for which the wanted values must stay as they are; the last is part of a probe.
_LARGE = 64  # Ritz problems up to this size are solved at every step, larger ones at every third.
_PROBE = 2  # Steps from a random vector outside the space, to meet what the first start had no part in,
_SURE_PROBE = 5  # or up to this many where they make it all but certain.
_SEEN = 1e-2  # Relative residual below which a Ritz vector holds its eigenvector.
_LEAST_PART = 0.01  # A random vector has a larger part than this over √P in a given direction, with probability 0.99.
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

    def enlarged(self, extra: int) -> Wanted:
        """Return a wish for so many more, at the ends that are wanted."""
        below = extra // 2 if self.bottom else 0
        return Wanted(self.count + extra - below, self.which, self.bottom + below)


@dataclass
class Search:
    """How far a search has come; plain values, so that it can be kept and taken up again."""

    history: list[list[float]] = field(default_factory=list)
    settled: list[float] | None = None
    settled_at: int = 0
    probed: list[float] | None = None
    probing: int = 0
    others: int = 0
    restarts: int = 0
    repeated: bool = False
    ended: str = ""
    goal: list[float | str] = field(default_factory=list)


def taken_up(kept: dict[str, object], wanted: Wanted, tolerance: float) -> Search:
    """Return the search that was kept; if other eigenvalues are wanted now, its products serve but not its conclusions."""
    goal: list[float | str] = [wanted.count, wanted.which, wanted.bottom, tolerance]
    if kept.get("goal") == goal:
        return Search(**kept)  # type: ignore[arg-type]
    return Search(restarts=int(str(kept.get("restarts", 0))), goal=goal)


def step(krylov: Krylov, search: Search) -> None:
    """Take one step; a probe follows its own chain first and then looks once at each vector that waited before it."""
    if search.probing > 1:
        krylov.step(stay=True)
        search.probing -= 1
    elif search.probing == 1:
        krylov.step()  # What this leads to waits last, behind the others.
        search.probing = -search.others
    else:
        krylov.step()
        search.probing = min(search.probing + 1, 0)


def advance(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> None:
    """Look at the Ritz values if it is time to, and decide whether the search is over."""
    frame = krylov.frame
    if krylov.is_complete:
        search.ended = "complete"
    if search.probing or krylov.size < min(wanted.total + _GUARD, krylov.dimension):
        return
    if krylov.size > _LARGE and frame.products % 3 and not krylov.is_complete:
        return
    if _is_noise(krylov, search):
        search.ended = "noise"
        return
    krylov.watch()
    ritz, residuals_of_all, _ = krylov.ritz()
    chosen = wanted.select(ritz)
    values, residuals = ritz[chosen], residuals_of_all[chosen]
    allowed = _allowed(values, tolerance, frame.scale, krylov.operator.dtype)
    worst = float((residuals / allowed).max())
    if not search.history or search.history[-1][0] < frame.products:
        search.history.append([frame.products, worst * min(tolerance, _LOOSEST), float(values[0])])
    if worst > 1 or krylov.is_complete:
        search.settled = None
    elif not _agree(values, search.settled, allowed):
        search.settled, search.settled_at = values.tolist(), frame.products
    elif frame.products < search.settled_at + (_GUARD - (wanted.total > 1)) * len(frame.waiting):
        return
    elif wanted.total == 1 or _agree(values, search.probed, allowed):
        search.ended = "converged"
    else:
        search.probing, search.probed = (
            _probe_length(values, ritz[residuals_of_all > _SEEN * numpy.abs(ritz)], krylov.dimension),
            values.tolist(),
        )
        search.others = len(frame.waiting)
        krylov.probe()


def _probe_length(values: Matrix, others: Matrix, dimension: int) -> int:
    """Return how many steps from a random vector show an eigenvalue like the wanted ones, if that can be had cheaply.

    A Chebyshev polynomial of degree d raises what lies x half-widths of the rest of the spectrum from its centre by
    cosh(d arcosh x), which has to make up for a part of 0.01/√P. What the basis has seen is not part of the rest.

    Args:
        values: The wanted Ritz values.
        others: Ritz values that stand for what has not been seen.
        dimension: P.
    """
    half = (others.max() - others.min()) / 2 if len(others) else 0.0
    gap = numpy.abs(values - (others.max() + others.min()) / 2).min() / half if half else numpy.inf
    if gap <= 1:
        return _PROBE
    sure = 1 + math.ceil(math.log(2 * math.sqrt(dimension) / _LEAST_PART) / math.acosh(gap)) if gap < numpy.inf else 2
    return max(sure, _PROBE) if sure <= _SURE_PROBE else _PROBE


def _agree(values: Matrix, earlier: list[float] | None, allowed: Matrix) -> bool:
    return earlier is not None and bool((numpy.abs(values - numpy.array(earlier)) <= allowed).all())


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
