"""Which of ascending values are wanted, and which index each has."""

from __future__ import annotations

import numpy
import pytest

from sharpcli.linalg.wanted import Wanted

VALUES = numpy.array([-7.0, -1, 0, 2, 5])


@pytest.mark.parametrize(
    ("wanted", "values", "ranks"),
    [
        (Wanted(2), [5, 2], [1, 2]),
        (Wanted(2, "SA"), [-7, -1], [-1, -2]),
        (Wanted(3, "LM"), [-7, 5, 2], [1, 2, 3]),
        (Wanted(1, bottom=2), [5, -1, -7], [1, -2, -1]),
        (Wanted(9), [5, 2, 0, -1, -7], [1, 2, 3, 4, 5]),
    ],
)
def test_values_and_their_indices(wanted: Wanted, values: list[float], ranks: list[int]):
    assert VALUES[wanted.select(VALUES)].tolist() == values
    assert wanted.ranks(len(VALUES)) == ranks


def test_of_two_values_of_one_magnitude_the_positive_one_is_first():
    values = numpy.array([-3.0, 1, 3])
    assert values[Wanted(2, "LM").select(values)].tolist() == [3, -3]


def test_more_are_asked_for_at_the_ends_that_are_wanted():
    assert Wanted(3).enlarged(4) == Wanted(7)
    assert Wanted(3, bottom=1).enlarged(5) == Wanted(6, bottom=3)
    assert Wanted(2, "LM").enlarged(1) == Wanted(3, "LM")


def test_positions_are_counted_from_their_ends():
    assert Wanted(2, bottom=1).ends([0, 1]) == (False, True)
    assert Wanted(2, bottom=1).ends([2]) == (True, False)
    assert Wanted(2, "SA").ends([0]) == (True, False)
    assert Wanted(2, "LM").ends([0]) == (True, True)
    assert Wanted(2).ends([]) == (False, False)
