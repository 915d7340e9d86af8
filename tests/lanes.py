"""Which cases of a product run in the fast lane (`make test`), which in the slow one (`make test-slow`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def crossed(*values: Iterable[Any]) -> list[Any]:
    """Return cases for `pytest.mark.parametrize` with one argument an axis.

    Fast: every value of every axis at least once. Slow: every pair of values of two axes. A fault that
    needs three values at once is not looked for; with two axes, fast and slow together are the product.
    """
    axes = [list(axis) for axis in values]
    fast = _each_value_once(axes)
    chosen, uncovered = list(fast), _all_pairs(axes)
    for row in fast:
        uncovered -= _pairs(row)
    product = list(itertools.product(*(range(len(axis)) for axis in axes)))
    while uncovered:
        best = max(product, key=lambda row: len(_pairs(row) & uncovered))
        chosen.append(best)
        uncovered -= _pairs(best)
    cases = [[axis[place] for axis, place in zip(axes, row, strict=True)] for row in chosen]
    return [pytest.param(*case) for case in cases[: len(fast)]] + [slow(*case) for case in cases[len(fast) :]]


def thinned(cases: Iterable[Any], every: int = 1000) -> list[Any]:
    """Return all cases: numbers 0, `every`, 2 `every`, ... are fast, the others slow. A tuple is several arguments."""
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [slow(*row) if number % every else pytest.param(*row) for number, row in enumerate(rows)]


def slow(*values: Any) -> Any:
    """Return a case that runs in the slow lane."""
    return pytest.param(*values, marks=pytest.mark.slow)


def long(*values: Any) -> Any:
    """Return a case that runs before a release only."""
    return pytest.param(*values, marks=pytest.mark.long)


def _each_value_once(axes: Sequence[Sequence[Any]]) -> list[tuple[int, ...]]:
    """Return as many rows of places as the longest axis has values; the values of a shorter one repeat."""
    longest = max(len(axis) for axis in axes)
    return [tuple(place % len(axis) for axis in axes) for place in range(longest)]


def _all_pairs(axes: Sequence[Sequence[Any]]) -> set[tuple[int, int, int, int]]:
    pairs = itertools.combinations(range(len(axes)), 2)
    return {(a, i, b, j) for a, b in pairs for i in range(len(axes[a])) for j in range(len(axes[b]))}


def _pairs(row: tuple[int, ...]) -> set[tuple[int, int, int, int]]:
    return {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(row)), 2)}
