"""Projected gradient ascent in a ball, on the device: the inner maximum of worst-case measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.linalg.reductions import accumulator_of, project
from sharpcli.measures._reading import Meter
from sharpcli.runtime import gaussian

NORMS = {"2": 2.0, "inf": math.inf}
_PIECE = 2**20  # Numbers of a subspace that are in float64 at the same time.
_SCOUTING = 6  # Steps that show which of two opposite sides is higher.


@dataclass(frozen=True, eq=False)
class Ball:
    """All δ = A (scale · u) with ‖u‖ ≤ ρ.

    A place is u / ρ, a point of the ball of radius 1. Coordinates with scale 0 do not move.

    Attributes:
        rho: ρ.
        norm: 2 or infinity.
        scale: Shape (p,), at least 0, in the accumulator type; None for 1.
        rows: Aᵀ, shape (p, P), of a subspace; None for the identity.
    """

    rho: float
    norm: float
    scale: Tensor | None
    rows: Tensor | None = None

    def offset(self, place: Tensor) -> Tensor:
        """Return δ (P,), in the accumulator type, for a place (p,)."""
        wide = accumulator_of(place)
        scaled = self.rho * (place.to(wide) if self.scale is None else self.scale * place)
        if self.rows is None:
            return scaled
        pieces = torch.split(self.rows, max(1, _PIECE // len(self.rows)), dim=1)
        return torch.cat([scaled @ piece.to(wide) for piece in pieces])

    def within(self, place: Tensor) -> Tensor:
        """Return δ (P,) for the nearest place inside the ball, computed in the accumulator type."""
        return self.offset(self.inside(place.to(accumulator_of(place))))

    def along(self, gradient: Tensor) -> Tensor:
        """Return the gradient with respect to z = scale · u (p,) from the gradient with respect to θ (P,)."""
        return gradient if self.rows is None else project(self.rows, gradient).to(gradient.dtype)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the place of norm 1 of steepest ascent, from the gradient by θ; 0 if it has no part that can move."""
        slope = self.along(gradient) if self.scale is None else self.scale.to(gradient.dtype) * self.along(gradient)
        if self.norm == math.inf:
            return slope.sign()
        length = torch.linalg.vector_norm(slope.double())
        return slope / length.to(slope.dtype) if length else slope

    def inside(self, place: Tensor) -> Tensor:
        """Return the nearest place in the ball of radius 1."""
        if self.norm == math.inf:
            return place.clamp(-1, 1)
        length = self.size(place)
        return place / length if length > 1 else place

    def size(self, place: Tensor) -> float:
        """Return the norm of a place: 1 on the boundary of the ball."""
        return float(torch.linalg.vector_norm(place.double(), self.norm))

    def anywhere(self, theta: Tensor, *seeds: int) -> Tensor:
        """Return a random place well inside the ball; a place does not depend on the scale of the weights."""
        place = gaussian(theta if self.rows is None else self.rows[:, 0], *seeds)
        return self.inside(place / (2 if self.norm == math.inf else 2 * self.size(place)))


@dataclass(frozen=True, eq=False)
class Top:
    """The highest point of one search: the loss there, as the search evaluates it, and its place (p,)."""

    loss: float
    place: Tensor


def num_steps(steps: int, restarts: int) -> int:
    """Return how many steps `climb` takes."""
    return restarts * (steps + 2 * _SCOUTING)


def climb(meter: Meter, ball: Ball, *, steps: int, restarts: int, seeds: tuple[int, ...], shown: progress.Task) -> list[Top]:
    """Climb from random places, and return the highest point of each restart among all points that were evaluated.

    At a minimum the loss is an even function to second order. So an ascent ends on one of two opposite sides, depending on
    its random start, and one side can be far higher than the other. Each restart therefore takes a few steps from its
    start, the same number from the mirror image of the result, and continues from the higher of the two.
    """
    tops = []
    for attempt in range(restarts):
        one = _ascend(meter, ball, ball.anywhere(meter.theta, *seeds, streams.ASCENT_START, attempt), _SCOUTING, shown)
        other = _ascend(meter, ball, -one.place, _SCOUTING, shown)
        tops.append(_ascend(meter, ball, (one if one.loss >= other.loss else other).place, steps, shown))
    return tops


def _ascend(meter: Meter, ball: Ball, place: Tensor, steps: int, shown: progress.Task) -> Top:
    """Step from boundary to boundary, which increases a convex loss; if the loss decreases, go back and halve the step.

    The steps are those of Frank and Wolfe 1956, with a length of 2 radii until the loss decreases for the first time.
    """
    length, top, uphill = 2.0, Top(-math.inf, place), torch.zeros_like(place)
    for _ in range(steps):
        loss, gradient = meter.slope(ball.offset(place))
        if loss > top.loss:
            top, uphill = Top(loss, place), ball.steepest(gradient)
        else:
            length /= 2
        place = ball.inside(top.place + length * uphill)
        shown.advance(1, rise=top.loss - meter.base)
    last = meter.loss(ball.offset(place))
    return Top(last, place) if last > top.loss else top
