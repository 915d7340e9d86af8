"""Schedules as fractions of the peak, point by point; those of papers are in test_recipes.py."""

from __future__ import annotations

import math

import pytest

from sharpcli.training.schedules import SCHEDULES, Schedule

EVEN = Schedule(100, 0.2, ((50, 0.1), (75, 0.01)))
POINTS = {
    "constant": {0: 1, 100: 1, 500: 1},
    "cosine": {0: 1, 50: 0.6, 25: 0.2 + 0.4 * (1 + math.cos(math.pi / 4)), 100: 0.2, 500: 0.2},
    "linear": {0: 1, 25: 0.8, 50: 0.6, 100: 0.2, 500: 0.2},
    "step": {0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 500: 0.01},
    "swa": {0: 1, 37: 1, 52.5: 0.6, 67.5: 0.2, 500: 0.2},
}


def test_every_schedule_is_here():
    assert POINTS.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("name", POINTS)
def test_points(name: str):
    assert {at: SCHEDULES[name](EVEN, at) for at in POINTS[name]} == pytest.approx(POINTS[name])


@pytest.mark.parametrize("name", POINTS)
def test_no_schedule_rises(name: str):
    rates = [SCHEDULES[name](EVEN, update) for update in range(120)]
    assert all(after <= before + 1e-15 for before, after in zip(rates, rates[1:], strict=False))


def test_a_step_without_drops_stays_at_the_peak():
    assert Schedule(10, 0.0, ()).step(9) == 1
