"""From the tops that a search met to a lower bound of the maximum."""

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
    """The largest rise of a search that is proved.

    Attributes:
        rise: A lower bound of the maximum over the ball; None where nothing is proved to be higher than θ.
        base: f(θ) in float64.
        rises: Of each top; none is above `rise`.
        ball: That was searched.
        place: Of the best top, shape (p,).
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

    Where rounding is not far below the rise that was seen, the search did not know where it went: it is made again in
    float64, and all of its tops are measured.

    Args:
        meter: Of f and θ; counts everything.
        search: Searches for the maximum with a meter: this one, or one in float64.

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
