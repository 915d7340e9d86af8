"""Projected gradient ascent in a ball, on the device: the inner maximum of worst-case measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.measures._reading import Meter, gaussian

NORMS = {"2": 2.0, "inf": math.inf}


@dataclass(frozen=True, eq=False)
class Ball:
    """All δ with ‖δ / scale‖ ≤ ρ; where the scale is 0, δ is 0.

    Attributes:
        rho: ρ.
        norm: 2 or infinity.
        scale: Shape (P,), at least 0; None for 1.
    """

    rho: float
    norm: float
    scale: Tensor | None

    def offset(self, place: Tensor) -> Tensor:
        """Return δ for a place of the ball of radius 1 around 0."""
        return self.rho * (place if self.scale is None else self.scale * place)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the place of norm 1 that a gradient in θ points to most; 0 where it has no part that can move."""
        slope = gradient if self.scale is None else self.scale * gradient
        if self.norm == math.inf:
            return slope.sign()
        length = torch.linalg.vector_norm(slope.double())
        return slope / length.to(slope.dtype) if length else slope

    def inside(self, place: Tensor) -> Tensor:
        """Return the nearest place of the ball of radius 1."""
        if self.norm == math.inf:
            return place.clamp(-1, 1)
        length = float(torch.linalg.vector_norm(place.double()))
        return place / length if length > 1 else place


@dataclass(frozen=True)
class Climbed:
    """How high an ascent came: the best rise, that of each restart, and how near to the rim the best place was."""

    rise: float | None
    rises: tuple[float, ...]
    share: float | None


def climb(meter: Meter, ball: Ball, *, steps: int, restarts: int, seed: int, shown: progress.Task) -> Climbed:
    """Climb from random places; every point that was evaluated counts, and one that is not higher than θ is no rise.

    For half of the steps each goes as far as the ball is wide, which for a convex loss means from rim to higher rim
    (Frank and Wolfe 1956); then half as far each time.
    """
    base = meter.loss(torch.zeros_like(meter.theta))
    rises, shares = [], []
    for attempt in range(restarts):
        # A place, not an offset: where the ball is scaled, the start does not depend on the scale of the weights.
        place = gaussian(meter.theta, seed, 22, attempt)
        place = ball.inside(place / (2 if ball.norm == math.inf else 2 * float(torch.linalg.vector_norm(place.double()))))
        highest, share = -math.inf, 0.0
        for step in range(steps):
            loss, gradient = meter.slope(ball.offset(place))
            if loss - base > highest:
                highest, share = loss - base, float(torch.linalg.vector_norm(place.double(), ball.norm))
            length = 2.0 if step < steps / 2 else 2.0 ** (steps / 2 - step)
            place = ball.inside(place + length * ball.steepest(gradient))
            shown.advance(1, rise=f"{highest:.4g}")
        last = meter.loss(ball.offset(place)) - base
        if last > highest:
            highest, share = last, float(torch.linalg.vector_norm(place.double(), ball.norm))
        rises.append(highest)
        shares.append(share)
    best = max(rises)
    return Climbed(best if best > 0 else None, tuple(rises), shares[rises.index(best)])
