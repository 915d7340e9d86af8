"""What is saved of a search, and what of it is used when the search is continued."""

from __future__ import annotations

import json
import math

import pytest

from sharpcli import files
from sharpcli.linalg.search_state import Search, SearchState, continued, state_of
from sharpcli.linalg.wanted import Wanted

GOAL: list[float | str] = [3, "LA", 0, 1e-3]


def saved() -> dict[str, object]:
    """Return the saved state of a search during its confirmation, as a file gives it back."""
    search = Search(
        history=[[10, 0.5, 3.0], [14, math.inf, 3.1]], settled=[3.1, 2.0, 1.0], settled_at=14, confirming=True, attempts=1,
        confirmations=4, ends=[-math.inf, 0.9], hold=2, restarts=1, error=0.01, ended="", goal=GOAL, seconds=2.5,
    )  # fmt: skip
    return files.conform(json.loads(json.dumps(state_of(search))), SearchState, "search")


def test_a_search_for_the_same_goes_on_with_its_conclusions():
    search = continued(saved(), Wanted(3), 1e-3)
    assert state_of(search) == saved()
    assert search.falls == []  # Only for progress, which begins anew.


@pytest.mark.parametrize(
    ("wanted", "tolerance"), [(Wanted(4), 1e-3), (Wanted(3, "LM"), 1e-3), (Wanted(3, bottom=1), 1e-3), (Wanted(3), 1e-4)]
)
def test_a_search_for_something_else_keeps_its_products_and_no_conclusion(wanted: Wanted, tolerance: float):
    search = continued(saved(), wanted, tolerance)
    assert (search.settled, search.ends, search.confirming, search.history, search.hold) == (None, None, False, [], 0)
    assert (search.restarts, search.attempts, search.confirmations, search.error, search.seconds) == (1, 1, 4, 0.01, 2.5)
    assert search.goal == [wanted.count, wanted.which, wanted.bottom, tolerance]
