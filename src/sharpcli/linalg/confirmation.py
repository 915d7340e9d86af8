"""What a search knows of the index of each eigenvalue.

Three sources say whether an eigenvalue was missed: the Ritz values of the basis, a few products in its complement, and
bounds of the whole spectrum that hold with probability 0.99 over the random start.
"""

from __future__ import annotations

import math

from torch import finfo

from sharpcli.linalg.ceiling import ends_of
from sharpcli.linalg.certify import SUSPICIOUS, Trust, rounding_of
from sharpcli.linalg.krylov import Krylov, Matrix
from sharpcli.linalg.operator import product_error
from sharpcli.linalg.ranks import Interval, Rank, ranks
from sharpcli.linalg.search_state import Search
from sharpcli.linalg.wanted import Wanted

UNKNOWN: Interval = (-math.inf, math.inf)


def trust_of(krylov: Krylov, search: Search, noise: float = 0.0) -> Trust:
    """Return how accurate the products are, as far as it was measured.

    Args:
        krylov: The decomposition.
        search: Its measurements of repeated products and of errors.
        noise: Largest error of a product that was measured outside of the recurrence, in the unit of A.
    """
    frame, dtype, size = krylov.frame, krylov.operator.dtype, krylov.dimension
    rounding = rounding_of(dtype, frame.scale, size=size, measured=search.measured or 0.0)
    return Trust(
        scale=frame.scale,
        rounding=rounding,
        noise=max(noise, frame.asymmetry) + max(search.error, product_error(krylov.operator)),
        orthogonality=frame.orthogonality,
        repeats=search.repeated is not None and search.repeated <= SUSPICIOUS,
        differs=search.repeated is not None and search.repeated > SUSPICIOUS,
        precision=precision_of(krylov),
    )


def complement_bounds(krylov: Krylov, search: Search) -> Interval:
    """Return bounds of the eigenvalues in the complement of the basis; an empty interval if the basis is complete."""
    if krylov.is_complete:
        return math.inf, -math.inf
    return UNKNOWN if search.ends is None else (search.ends[0], search.ends[1])


def ranks_of(
    krylov: Krylov,
    search: Search,
    wanted: Wanted,
    trust: Trust,
    residuals: Matrix,
    *,
    capped: bool,
    values: list[float] | None = None,
) -> list[Rank]:
    """Return what is known of the index of each wanted value.

    Args:
        krylov: The decomposition.
        search: Its bounds of the complement.
        wanted: Which values, K of them.
        trust: Accuracy of the products.
        residuals: Of the wanted values, shape (K,).
        capped: Whether the bounds of the whole spectrum are used as well as those of the complement.
        values: The wanted values (K,), if they were measured again. Default: the Ritz values.
    """
    radii, slack = [trust.radius(float(residual)) for residual in residuals], trust.slack(krylov.size)
    everything = spectrum_bounds(krylov, slack) if capped else UNKNOWN
    return ranks(krylov.frame, wanted, radii, complement_bounds(krylov, search), slack, everything=everything, values=values)


def spectrum_bounds(krylov: Krylov, slack: float) -> Interval:
    """Return a lower and an upper bound of all eigenvalues, each with probability 0.99 over the random start.

    Args:
        krylov: The decomposition; its extreme Ritz values are within the bounds.
        slack: Noise and rounding, in the unit of A, added at both ends.
    """
    frame, (values, _, _) = krylov.frame, krylov.ritz()
    lower, upper = ends_of(frame.diagonal, frame.off_diagonal, dimension=krylov.dimension, share=krylov.share)
    return min(lower, float(values[0])) - slack, max(upper, float(values[-1])) + slack


def unconfirmed(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> list[int]:
    """Return the positions of the wanted values whose index is not confirmed to the tolerance."""
    krylov.inspect()
    trust = trust_of(krylov, search)
    ritz, residuals, _ = krylov.ritz()
    places = wanted.select(ritz)
    ranking = ranks_of(krylov, search, wanted, trust, residuals[places], capped=True)
    return [
        position
        for position, (rank, value, residual) in enumerate(zip(ranking, ritz[places], residuals[places], strict=True))
        if rank.shown(value, trust.radius(residual), trust.reach(value, residual, tolerance)) is None
    ]


def beyond_complement(krylov: Krylov, search: Search, wanted: Wanted, tolerance: float) -> bool:
    """Return whether all values of unconfirmed index lie outside the bounds of the complement, so that more steps can help."""
    if search.ends is None:
        return False
    ritz, _, _ = krylov.ritz()
    values = ritz[wanted.select(ritz)]
    slack = trust_of(krylov, search).slack(krylov.size)
    return not any(
        search.ends[0] - slack < values[place] < search.ends[1] + slack
        for place in unconfirmed(krylov, search, wanted, tolerance)
    )


def precision_of(krylov: Krylov) -> float:
    """Return ε of the type of the products."""
    return float(finfo(krylov.operator.dtype).eps)
