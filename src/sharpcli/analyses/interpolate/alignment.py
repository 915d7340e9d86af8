"""Permutation of the hidden units of a network to match those of another network, without a change of its function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import nn

from sharpcli import streams
from sharpcli.models.wiring import UnitGroup, hidden_units
from sharpcli.modules import private_copy
from sharpcli.runtime import generator

_MOST_ROUNDS = 50
_ROUNDING = 1e-12  # Improvement, relative to the sum of all |gains|, below which it is rounding.


def align(first: nn.Module, second: nn.Module, *, seed: int) -> tuple[nn.Module, float]:
    """Return a copy of the second model with its units permuted to match the first, and the fraction of units that moved.

    The method is weight matching. It goes through the groups of units in random order. For each group, it applies the
    permutation that maximizes the inner product of the weights of both networks, with all other permutations fixed. It
    repeats this until no permutation changes, at most 50 times.

    Args:
        first: The model to match.
        second: A model of the same architecture, which is not changed.
        seed: Seed of the order of the groups.

    Raises:
        InputError: The model has layers whose wiring is not known; see `models.wiring`.

    References:
        Ainsworth, Hayase and Srinivasa, Git Re-Basin, ICLR 2023, algorithm 1.
    """
    moved = private_copy(second)
    ours, theirs = hidden_units(first), hidden_units(moved)
    random = generator(seed, streams.ALIGNMENT)
    places = [numpy.arange(units.count) for units in theirs]
    for _ in range(_MOST_ROUNDS):
        changed = False
        for place in torch.randperm(len(theirs), generator=random).tolist():
            gain = _gain(ours[place], theirs[place])
            total, order = matched(gain, sorted(theirs[place].runs))
            if total - gain.trace() > _ROUNDING * numpy.abs(gain).sum():
                theirs[place].permute(torch.from_numpy(order))
                places[place] = places[place][order]
                changed = True
        if not changed:
            break
    stayed = sum(int((units == numpy.arange(len(units))).sum()) for units in places)
    return moved, 1 - stayed / sum(len(units) for units in places)


def matched(gain: NDArray[Any], runs: Sequence[int]) -> tuple[float, NDArray[Any]]:
    """Return the largest sum of gain[i, order[i]] over the permutations that do not split runs, and the order.

    Args:
        gain: Shape (n, n).
        runs: Sizes of runs, which are consecutive units that stay together; ascending, each a multiple of the previous size.
            Units may be permuted within a run, and entire runs may be permuted.
    """
    if not runs:
        rows, columns = linear_sum_assignment(gain, maximize=True)
        return float(gain[rows, columns].sum()), columns
    size, count = runs[-1], len(gain) // runs[-1]
    cells = gain.reshape(count, size, count, size).swapaxes(1, 2)
    inner = [[matched(cells[row, column], runs[:-1]) for column in range(count)] for row in range(count)]
    total, outer = matched(numpy.array([[value for value, _ in row] for row in inner]), ())
    return total, numpy.concatenate([inner[row][column][1] + size * column for row, column in enumerate(outer)])


def _gain(ours: UnitGroup, theirs: UnitGroup) -> NDArray[Any]:
    """Return the inner products between the weights of each unit of one network and of each unit of the other."""
    total = sum(
        one.rows() @ other.rows().T.to(one.tensor.device)
        for one, other in zip(ours.axes, theirs.axes, strict=True)
        if one.learned
    )
    assert isinstance(total, torch.Tensor)
    gains: NDArray[Any] = total.cpu().numpy()
    return gains
