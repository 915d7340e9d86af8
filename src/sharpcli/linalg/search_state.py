"""How far a search for eigenvalues has come: plain values that are saved with the basis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypedDict

from sharpcli.files import Range
from sharpcli.linalg.wanted import Wanted

_Count = Annotated[int, Range(0)]
_Number = Annotated[float, Range(infinite=True)]


@dataclass
class Search:
    """The state of a search, in plain values that can be saved.

    Attributes:
        history: [products, largest residual relative to its eigenvalue, first value] at each check.
        falls: [products, sum of ln(residual / allowed residual) over those above it] at each check.
        settled: The wanted values when all residuals first were within tolerance, at `settled_at` products; None before.
        confirming: Whether products are spent in the complement of the basis, to find eigenvalues that were missed.
        chained: Whether the recurrence there was started.
        attempts: How often it was started.
        confirmations: Products spent there.
        ends: Bounds of the eigenvalues in the complement, measured since the last restart. They stay valid while the basis
            grows, because the new complement is a part of the old one.
        hold: Steps to take before the next check.
        restarts: How often the basis was restarted.
        repeated: Difference of a product and its repetition, in parts of ‖A‖; None if no product was repeated.
        measured: Error of a product that the operator measured itself; None before it did.
        error: Largest error of a product that the operator reported, interrupted parts included.
        ended: Why the search ended; empty before.
        goal: Count, which, bottom and tolerance of the search.
        seconds: Time spent, interrupted parts included.
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
    """The fields of a `Search` that are saved."""

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
    """Return the fields that are saved; `falls` serves only the forecast and is not."""
    return {name: getattr(search, name) for name in SearchState.__annotations__}


def continued(saved: dict[str, object], wanted: Wanted, tolerance: float) -> Search:
    """Return the saved search, so that it can be continued.

    If other eigenvalues are wanted now, its products are used again, but not its conclusions.
    """
    goal: list[float | str] = [wanted.count, wanted.which, wanted.bottom, tolerance]
    if saved.get("goal") == goal:
        own = {name: value for name, value in saved.items() if name in SearchState.__annotations__}
        return Search(**own)  # type: ignore[arg-type]
    counted = {name: int(str(saved.get(name, 0))) for name in ("restarts", "attempts", "confirmations")}
    measured = {name: float(str(saved.get(name, 0.0))) for name in ("error", "seconds")}
    return Search(**counted, **measured, goal=goal)  # type: ignore[arg-type]
