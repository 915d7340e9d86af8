"""Cases of products: every value in the fast lane, every pair of values in both lanes together."""

from __future__ import annotations

import itertools

import pytest

from tests.lanes import crossed, slow, thinned

AXES = (list("abcde"), [1, 2, 3], [False, True], ["x", "y"])


def is_slow(case) -> bool:
    return [mark.name for mark in case.marks] == ["slow"]


@pytest.mark.parametrize("axes", [AXES[:1], AXES[:2], AXES[:3], AXES], ids=len)
def test_every_value_is_fast_and_every_pair_is_there(axes):
    cases = crossed(*axes)
    fast = [case.values for case in cases if not is_slow(case)]
    assert [set(column) for column in zip(*fast, strict=True)] == [set(axis) for axis in axes]
    rows = [case.values for case in cases]
    assert len(rows) == len(set(rows))
    for (i, first), (j, second) in itertools.combinations(enumerate(axes), 2):
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(first, second))


def test_three_lists_are_fewer_cases_than_their_product_and_two_are_the_product():
    assert len(crossed(*AXES)) < 5 * 3 * 2 * 2 / 2
    assert len(crossed(*AXES[:2])) == 15


def test_the_same_lists_give_the_same_cases():
    """Workers compare what they have collected."""
    assert [case.values for case in crossed(*AXES)] == [case.values for case in crossed(*AXES)]


def test_some_cases_of_a_list_are_fast():
    assert [is_slow(case) for case in thinned(range(5), 2)] == [False, True, False, True, False]
    assert [is_slow(case) for case in thinned("ab")] == [False, True]
    assert [case.values for case in thinned([(1, 2), 3])] == [(1, 2), (3,)]
    assert is_slow(slow(1, 2))
