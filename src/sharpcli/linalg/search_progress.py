"""How many products a search still needs: a forecast from the rate at which its residuals fall."""

from __future__ import annotations

from sharpcli.linalg.search_state import Search
from sharpcli.linalg.stopping import STABLE_STEPS
from sharpcli.linalg.wanted import Wanted
from sharpcli.progress import left_of_fall

_PRODUCTS_PER_VALUE, _PRODUCTS_AT_START = 2, 10  # Usual cost of a search, used until its rate is known.


def remaining_products(search: Search, wanted: Wanted, products: int, *, confirm: int, max_products: int) -> float:
    """Return how many more products the search is likely to take.

    Args:
        search: Its state.
        wanted: Which eigenvalues.
        products: Spent so far, without those that confirm.
        confirm: Products that confirm, at least.
        max_products: Most products of the search.
    """
    if search.confirming:
        left = float(confirm)
    else:
        falling = left_of_fall(search.falls)
        usual = max(_PRODUCTS_PER_VALUE * wanted.total + _PRODUCTS_AT_START - products, 1.0)  # Until more is known.
        left = (usual if falling is None else falling) + (confirm if wanted.total > 1 else STABLE_STEPS)
    return max(min(left, max_products - products - search.confirmations), 0.0)
