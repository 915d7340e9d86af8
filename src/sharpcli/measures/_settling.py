"""Compute a lower bound of the maximum from the highest points of a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli.measures._ascent import Ball, Top
from sharpcli.measures._heights import Rise
from sharpcli.measures._reading import Meter

_FLAT = "The gradient is 0 at all points of the search: the loss is constant there, or too close to 0 even for float64."
Search = Callable[[Meter], tuple[Ball, list[Top]]]


@dataclass(frozen=True, eq=False)
class Settled:
    """The largest proved rise of a search.

    Attributes:
        rise: A lower bound of the maximum over the ball; None if no rise above f(θ) is proved.
        base: f(θ) in float64.
        rises: The rise of each top; none is above `rise`.
        ball: The ball that was searched.
        place: The place of the best top, shape (p,).
        note: Why there is no rise, or that the search was made in float64.
    """

    rise: float | None
    base: float
    rises: tuple[float, ...]
    ball: Ball
    place: Tensor
    note: str


def settle(meter: Meter, search: Search) -> Settled:
    """Run a search, and measure its best top in float64.

    If the rounding error is not far below the rise, the search is not reliable and is repeated in float64. If it is still
    not far below, all tops are measured.

    Args:
        meter: The meter of f and θ; it counts everything.
        search: Searches for the maximum with a meter: this meter, or a meter in float64.

    Raises:
        NumericalError: The loss is not finite somewhere in the ball.
    """
    ball, tops = search(meter)
    best, seen, note = max(tops, key=lambda top: top.loss), meter.base, ""
    heights = meter.heights
    base, before = heights.loss(), heights.passes[0] - 1
    errors = heights.errors(ball.within(best.place))
    clear = heights.is_clear(best.loss - seen, errors)
    if not clear and meter.theta.dtype != torch.float64:
        note = "The rise is close to the rounding error in float32: searched again in float64."
        wide = meter.widened()
        ball, tops = search(wide)
        meter.take(wide)
        best, seen = max(tops, key=lambda top: top.loss), wide.base
        errors = wide.heights.errors(ball.within(best.place))
        clear = wide.heights.is_clear(best.loss - seen, errors)
    if not clear:
        note = (
            "The rise is close to the rounding error even in float64: the lower bound holds, but may be far below the maximum."
        )
    measured = [best] if clear else tops
    rise_of_each = [Rise.to(ball.within(top.place), heights, base, errors if clear else None) for top in measured]
    meter.passes += heights.passes[0] - before
    highest = max(range(len(rise_of_each)), key=lambda number: rise_of_each[number].value or -math.inf)
    rise = rise_of_each[highest].value
    if rise is None:
        note = _FLAT if meter.flat else rise_of_each[highest].note
    top = measured[highest]
    known = [top.loss - seen for top in tops] if clear else [one.value or 0.0 for one in rise_of_each]
    rises = (rise if one is top else min(known[number], rise or 0.0) for number, one in enumerate(tops))
    return Settled(rise, base, tuple(one or 0.0 for one in rises), ball, top.place, note)
