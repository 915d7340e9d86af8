"""When a search for eigenvalues ends: residuals are small, nothing was missed, or only noise remains."""

from __future__ import annotations

import numpy
from torch import Tensor

from sharpcli.linalg.certify import DETERMINISTIC, SUSPICIOUS
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.confirmation import beyond_complement, precision_of, trust_of, unconfirmed
from sharpcli.linalg.krylov import Krylov, Matrix
from sharpcli.linalg.operator import measured_error
from sharpcli.linalg.search_state import Search
from sharpcli.linalg.wanted import Wanted

STABLE_STEPS = 3  # Steps for which the wanted values must stay unchanged, where nothing better confirms them.
_LARGE = 64  # Ritz problems up to this size are solved at every step, larger ones at every third.
_FIRST_CHECK = 2  # Steps in the complement before the first check of them.
LOOSEST_TOLERANCE = 1e-2  # A larger residual does not tell which eigenvalue is near, so a larger tolerance saves nothing.
_DOUBTFUL = 10  # Asymmetry in units of rounding above which the operator is asked to measure its error.
_DROWNED = 1.5  # A residual up to this many times its noise does not fall any further.
_PATIENCE = 2  # Times the products until the values settled: more are not spent to confirm their indices.


def check_values(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> None:
    """Check the Ritz values, if a check is due, and set in `search` whether it ends, confirms or continues."""
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
    _measure_operator_error(krylov, search, wanted)
    values, ratios, allowed = _relative_residuals(krylov, search, wanted, tolerance)
    worst = float(ratios.max())
    if not search.history or search.history[-1][0] < frame.products:
        search.history.append([frame.products, worst * min(tolerance, LOOSEST_TOLERANCE), float(values[0])])
        search.falls.append([frame.products, float(numpy.log(ratios.clip(min=1.0)).sum())])
    if worst > 1 or krylov.is_complete:
        search.settled = None
    elif search.settled is None or bool((numpy.abs(values - numpy.array(search.settled)) > allowed).any()):
        search.settled, search.settled_at = values.tolist(), frame.products
        search.confirming = wanted.total > 1
    elif frame.products >= search.settled_at + STABLE_STEPS * len(frame.waiting):
        _finish_if_confirmed(krylov, search, wanted, tolerance)


def _finish_if_confirmed(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> None:
    """End a search whose values stay unchanged, unless more steps can still confirm their indices.

    A single value needs no products in the complement if the ceiling is close enough. With several values those products
    were spent before; a larger basis may confirm what they did not, if the values are outside the bounds of the complement.
    """
    if not unconfirmed(krylov, search, wanted, tolerance):
        search.ended = "converged"
    elif wanted.total == 1 and not search.attempts:
        search.confirming = True
    elif krylov.frame.products >= _PATIENCE * search.settled_at or not beyond_complement(krylov, search, wanted, tolerance):
        search.ended = "converged"


def check_complement(krylov: Krylov, complement: Complement, search: Search, wanted: Wanted, tolerance: float) -> None:
    """Check the complement for a missing eigenvalue: add it to the basis, end the search, or leave it undecided."""
    if complement.size < min(_FIRST_CHECK, complement.dimension, len(complement.rows)) and complement.waiting is not None:
        return
    _, _, allowed = _relative_residuals(krylov, search, wanted, tolerance)
    missing = _missing_direction(krylov, complement, wanted, allowed)
    search.ends = list(complement.ends())
    if missing is not None:
        krylov.inject(missing)
        search.settled, search.confirming, search.hold = None, False, len(krylov.frame.waiting) + 1
        return
    unclear = unconfirmed(krylov, search, wanted, tolerance)
    if not unclear:
        search.ended = "converged"
    elif complement.is_spent(wanted.ends(unclear)):
        search.confirming = False  # Undecided: then the values must stay unchanged for some steps.


def _missing_direction(krylov: Krylov, complement: Complement, wanted: Wanted, allowed: Matrix) -> Tensor | None:
    """Return a vector of the complement whose Ritz value belongs to the wanted ones, if there is one."""
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


def _relative_residuals(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> tuple[Matrix, Matrix, Matrix]:
    """Return the wanted Ritz values, their residuals divided by the allowed ones, and the allowed residuals, each (K,).

    A residual is to be within tolerance after noise and rounding are added. Where these are too large for that, it is to
    come down to their size: more steps would not make it smaller.
    """
    ritz, residuals, weights = krylov.ritz()
    places, floor = wanted.select(ritz), trust_of(krylov, search).floor()
    asked = min(tolerance, LOOSEST_TOLERANCE) * numpy.abs(ritz[places])
    allowed: Matrix = numpy.maximum(numpy.maximum(asked - floor, asked / 2), max(floor, numpy.finfo(float).tiny))
    noise = krylov.frame.asymmetric(ritz[places], weights[:, places])
    return ritz[places], residuals[places] / numpy.maximum(allowed, _DROWNED * noise), allowed


def _measure_operator_error(krylov: Krylov, search: Search, wanted: Wanted) -> None:
    """Let the operator measure its own error, once, if asymmetry shows more than the usual rounding."""
    frame = krylov.frame
    if search.measured is not None or frame.asymmetry <= _DOUBTFUL * precision_of(krylov) * frame.scale:
        return
    ritz, _, weights = krylov.ritz()
    place = wanted.select(ritz)[0]
    search.measured = measured_error(krylov.operator, krylov.vectors(weights[:, [place]])[0], abs(float(ritz[place])))


def _is_noise(krylov: Krylov, search: Search) -> bool:
    """Return whether the products are not those of one symmetric matrix, or have too few correct digits.

    Asymmetry comes from products that differ each time or from low precision. One repeated product tells which it is.
    """
    frame = krylov.frame
    if frame.asymmetry <= SUSPICIOUS * frame.scale:
        return False
    if search.repeated is None:
        search.repeated = krylov.repeat() / frame.scale
    return search.repeated > SUSPICIOUS or frame.asymmetry > DETERMINISTIC * frame.scale


def restart(krylov: Krylov, search: Search, wanted: Wanted) -> None:
    """Restart the basis with the wanted Ritz vectors and the nearest half of the others."""
    values, _, weights = krylov.ritz()
    spare = (krylov.size - wanted.total) // 2
    krylov.restart(weights[:, sorted(set(wanted.enlarged(spare).select(values)))])
    search.restarts += 1
    search.ends = None  # The vectors left out are in the complement now.
