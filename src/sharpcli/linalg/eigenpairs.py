"""The answer of a search: eigenpairs, each with what is known of its error and its index."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sharpcli.linalg.certify import Trust, Verdict
from sharpcli.linalg.krylov import Krylov
from sharpcli.linalg.ranks import Interval, Rank
from sharpcli.linalg.wanted import Wanted


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Approximate eigenpairs of a symmetric operator: the wanted ones, best first.

    Attributes:
        wanted: Which were searched for.
        values: Ritz values, or Rayleigh quotients of a fresh product where `verified`, shape (K,), float64, CPU.
        vectors: Unit vectors, shape (K, P).
        residuals: ‖Av - value·v‖ of the products that were made, shape (K,).
        verified: Which residuals were measured with a fresh product.
        verdicts: How far each may be trusted; see `Trust.verdict`.
        trust: Noise, rounding and orthogonality; its `radius` makes the intervals.
        intervals: For each, an interval that holds an eigenvalue. If it is `confirmed`, it holds the eigenvalue of its index,
            with probability `index_probability` over the random vectors.
        confirmed: Whether the index is.
        known: For each, what is known of its index; see `linalg.ranks.Rank`.
        index_probability: 0.99 for one attempt to confirm, 0.01 less for each further one. For "LM" a bound is needed at both
            ends, and it is 0.02 less for each.
        ceiling: No eigenvalue is larger, with probability 0.99 over the start; never below a listed value.
        floor: No eigenvalue is smaller, with the same probability.
        steps: Products of the search. Further products: `confirmations` to find missed eigenvalues, `verifications` to
            measure residuals.
        history: (products, largest residual relative to its eigenvalue) at each check.
        ended: "converged", "complete" (the space is exhausted), "products", "seconds" or "noise".
        krylov: The decomposition, for further results from it.
        earlier_seconds: Time spent on the search before it was interrupted.
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
        """Which pairs are certified."""
        return tuple(verdict == "certified" for verdict in self.verdicts)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Index of each: 1 is the largest, -1 the smallest (for "LM": 1 is the largest in magnitude)."""
        return tuple(rank.index for rank in self.known)

    @property
    def by_index(self) -> tuple[Interval, ...]:
        """For each, an interval that holds the eigenvalue of its index; infinite if nothing is known."""
        return tuple(rank.interval for rank in self.known)

    def interval(self, position: int) -> Interval:
        """Return the interval of the pair at a position; it holds an exact eigenvalue."""
        return self.intervals[position]
