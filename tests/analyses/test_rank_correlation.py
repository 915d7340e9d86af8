"""Kendall's τ against its definition, and the p-value against all permutations."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest

from sharpcli.analyses.compare.rank_correlation import rank_correlations


def tau(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    pairs = list(itertools.combinations(range(len(left)), 2))
    return sum(numpy.sign((left[i] - left[j]) * (right[i] - right[j])) for i, j in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(5))
def test_tau_and_p_value_are_those_of_all_permutations(seed: int) -> None:
    values, gaps = (tuple(row) for row in numpy.random.default_rng(seed).normal(size=(2, 6)))
    (found,) = rank_correlations({"measure": values}, gaps)
    assert found.tau == pytest.approx(tau(values, gaps), abs=1e-12)
    others = [abs(tau(values, order)) for order in itertools.permutations(gaps)]
    assert found.p_value == pytest.approx(numpy.mean([other > abs(found.tau) - 1e-9 for other in others]), abs=1e-9)
    assert found.checkpoints == 6


def test_missing_values_are_left_out_and_fewer_than_five_are_not_enough() -> None:
    gaps = [0.1, 0.2, 0.3, 0.4, 0.5, math.nan]
    measured = {
        "grows": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "falls": [5.0, 4.0, 3.0, 2.0, 1.0, None],
        "missing": [1.0, None, 3.0, 4.0, math.inf, 6.0],
        "equal": [1.0] * 6,
    }
    found = {one.measure: one for one in rank_correlations(measured, gaps)}
    assert found.keys() == {"grows", "falls"}
    assert (found["grows"].tau, found["falls"].tau) == (pytest.approx(1), pytest.approx(-1))
    assert found["grows"].p_value == pytest.approx(2 / math.factorial(5))
    assert found["grows"].checkpoints == 5
