"""When a search is over and what of it is kept; whole searches are in test_lanczos.py, progress in test_search_progress.py."""

from __future__ import annotations

import json
import math

import pytest
import torch

from sharpcli import files
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.search import Search, SearchState, products_left, state_of, taken_up
from sharpcli.linalg.wanted import Wanted
from tests.linalg.spectra import Planted, steep

GOAL: list[float | str] = [3, "LA", 0, 1e-3]


def kept() -> dict[str, object]:
    """Return what is kept of a search in the midst of its confirmation, as a file gives it back."""
    search = Search(
        history=[[10, 0.5, 3.0], [14, math.inf, 3.1]], settled=[3.1, 2.0, 1.0], settled_at=14, confirming=True, attempts=1,
        confirmations=4, ends=[-math.inf, 0.9], hold=2, restarts=1, error=0.01, ended="", goal=GOAL, seconds=2.5,
    )  # fmt: skip
    return files.conform(json.loads(json.dumps(state_of(search))), SearchState, "search")


def test_a_search_for_the_same_goes_on_with_its_conclusions():
    search = taken_up(kept(), Wanted(3), 1e-3)
    assert state_of(search) == kept()
    assert search.falls == []  # Only for progress, which begins anew.


@pytest.mark.parametrize(
    ("wanted", "tolerance"), [(Wanted(4), 1e-3), (Wanted(3, "LM"), 1e-3), (Wanted(3, bottom=1), 1e-3), (Wanted(3), 1e-4)]
)
def test_a_search_for_something_else_keeps_its_products_and_no_conclusion(wanted: Wanted, tolerance: float):
    search = taken_up(kept(), wanted, tolerance)
    assert (search.settled, search.ends, search.confirming, search.history, search.hold) == (None, None, False, [], 0)
    assert (search.restarts, search.attempts, search.confirmations, search.error, search.seconds) == (1, 1, 4, 0.01, 2.5)
    assert search.goal == [wanted.count, wanted.which, wanted.bottom, tolerance]


def test_products_left_are_never_more_than_are_allowed_nor_fewer_than_none():
    search = Search(confirmations=5)
    assert products_left(search, Wanted(2), 10, confirm=20, most=100) == pytest.approx(2 * 2 + 10 - 10 + 20)
    assert products_left(search, Wanted(2), 10, confirm=20, most=18) == 3
    assert products_left(search, Wanted(2), 10, confirm=20, most=12) == 0
    search.confirming = True
    assert products_left(search, Wanted(2), 10, confirm=20, most=100) == 20


def test_products_left_follow_how_the_residuals_fall():
    falling = Search(falls=[[products, 20 - products] for products in range(0, 11)])
    steeper = Search(falls=[[products, 20 - 1.8 * products] for products in range(0, 11)])
    left = [products_left(search, Wanted(1), 10, confirm=0, most=1000) for search in (falling, steeper)]
    assert 5 < left[0] < 20
    assert left[1] < left[0]


@pytest.mark.parametrize(
    ("spectrum", "budget", "ended"),
    [
        (steep(), 500, "converged"),
        (torch.tensor([4.0, 3, 2, 1], dtype=torch.float64), 500, "complete"),
        (torch.linspace(0, 1, 300, dtype=torch.float64), 30, "products"),
    ],
)
def test_every_search_says_why_it_is_over(spectrum: torch.Tensor, budget: int, ended: str):
    assert eigenpairs(Planted(spectrum), Wanted(3), max_products=budget).ended == ended


def test_noise_ends_a_search_at_once():
    class Noise(Planted):
        def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
            return super().__matmul__(vector) + torch.randn(len(vector), dtype=torch.float64).to(self.device)

    torch.manual_seed(0)
    found = eigenpairs(Noise(steep()), Wanted(3), max_products=500)
    assert found.ended == "noise"
    assert set(found.verdicts) == {"refused"}
    assert found.steps < 20
