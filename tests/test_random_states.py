"""The random numbers of the caller are the same after a block as before."""

from __future__ import annotations

import random

import numpy
import pytest
import torch

from sharpcli.random_states import RandomStates, random_states_kept


def drawn() -> tuple[float, float, float]:
    return float(torch.rand(())), float(numpy.random.rand()), random.random()


def test_numbers_after_the_block_are_those_without_it() -> None:
    before = RandomStates.now()
    wanted = drawn()
    before.restore()
    with random_states_kept():
        assert drawn() == wanted
        drawn()
    assert drawn() == wanted


def test_an_error_restores_them_too() -> None:
    def fails() -> None:
        with random_states_kept():
            torch.rand(3)
            raise ValueError("here")

    before = RandomStates.now()
    with pytest.raises(ValueError, match="here"):
        fails()
    assert RandomStates.now() == before


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: numpy.random.rand(), lambda: random.random()])
def test_a_draw_changes_them(draw: object) -> None:
    with random_states_kept():
        before = RandomStates.now()
        draw()  # type: ignore[operator]
        assert RandomStates.now() != before
