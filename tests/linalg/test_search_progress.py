"""How long a search is said to take: from how it converges, not from what is allowed; and telling that is free."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from sharpcli import progress
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.search_progress import remaining_products
from sharpcli.linalg.search_state import Search
from sharpcli.linalg.wanted import Wanted
from tests.lanes import crossed

MOST = 5000


class Watcher:
    """Remembers (done, expected total) of a search, and the fields that were told."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []
        self.fields: set[str] = set()

    def start(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> Watcher:
        assert not parts
        if label == "search":
            assert units == "products"
            assert total is not None
            self.done, self.total = done, total
            self.seen.append((done, total))
        return self

    def finish(self, task: progress.Task) -> None:
        pass

    def advance(self, amount: float = 1, **fields: object) -> None:
        self.done += amount
        self.fields |= set(fields)

    def expect(self, left: float) -> None:
        self.total = self.done + left
        self.seen.append((self.done, self.total))

    def evaluated(self, **fields: object) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    note = say = warn


def operator(name: str) -> torch.Tensor:
    """Return a diagonal matrix of one of the spectra that nets have: outliers above a bulk, or a power law."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(1500, generator=random, dtype=torch.float64).abs()
    if name == "outliers":
        values[:12] = torch.linspace(8, 40, 12, dtype=torch.float64)
    elif name == "power law":
        values = 100 / torch.arange(1, 1501, dtype=torch.float64)
    return torch.diag(values)


@pytest.mark.parametrize(("name", "count"), crossed(["outliers", "power law", "bulk"], [1, 5, 10, 20]))
def test_a_search_is_said_to_take_about_as_long_as_it_does(name: str, count: int) -> None:
    watcher = Watcher()
    with progress.listening(watcher):
        found = eigenpairs(operator(name), Wanted(count), max_products=MOST, seed=1)
    taken = found.steps + found.confirmations
    late = [total for done, total in watcher.seen if taken / 2 <= done < taken]
    assert found.ended == "converged"
    assert max(total for _, total in watcher.seen) < MOST / 2
    assert min(late) > 0.5 * taken
    assert max(late) < 3 * taken
    assert sum(abs(total - taken) for total in late) / len(late) < 0.5 * taken
    assert {"residual", "first"} <= watcher.fields


def test_a_budget_is_the_most_that_is_expected() -> None:
    watcher = Watcher()
    with progress.listening(watcher):
        eigenpairs(operator("bulk"), Wanted(20), max_products=45, seed=1)
    assert max(total for _, total in watcher.seen) <= 45


def test_nothing_changes_where_somebody_listens() -> None:
    alone = eigenpairs(operator("power law"), Wanted(5), seed=1)
    with progress.listening(Watcher()):
        watched = eigenpairs(operator("power law"), Wanted(5), seed=1)
    assert torch.equal(alone.values, watched.values)
    assert torch.equal(alone.vectors, watched.vectors)


def test_remaining_products_are_never_more_than_are_allowed_nor_fewer_than_none():
    search = Search(confirmations=5)
    assert remaining_products(search, Wanted(2), 10, confirm=20, max_products=100) == pytest.approx(2 * 2 + 10 - 10 + 20)
    assert remaining_products(search, Wanted(2), 10, confirm=20, max_products=18) == 3
    assert remaining_products(search, Wanted(2), 10, confirm=20, max_products=12) == 0
    search.confirming = True
    assert remaining_products(search, Wanted(2), 10, confirm=20, max_products=100) == 20


def test_remaining_products_follow_how_the_residuals_fall():
    falling = Search(falls=[[products, 20 - products] for products in range(0, 11)])
    steeper = Search(falls=[[products, 20 - 1.8 * products] for products in range(0, 11)])
    left = [remaining_products(search, Wanted(1), 10, confirm=0, max_products=1000) for search in (falling, steeper)]
    assert 5 < left[0] < 20
    assert left[1] < left[0]
