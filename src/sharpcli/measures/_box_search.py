"""L-BFGS-B in the box of ε-sharpness, remembering the highest point that it has met.

The solver is SciPy's, for fidelity to the paper. Its traps are avoided:

* It starts at a random point inside the box, not at the weights, where the gradient vanishes and it would stop at once
  and answer 0; its own stopping rules are switched off.
* The best value over *all* evaluations counts, not the last iterate.
* The loss is scaled so that the first step is as long as the box is wide, whatever the size of the gradient:
  L-BFGS-B starts with the identity as its Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy
import torch
from scipy.optimize import Bounds, OptimizeResult, minimize
from torch import Tensor

from sharpcli.measures._ascent import Ball
from sharpcli.measures._reading import Meter
from sharpcli.runtime import generator

_FIRST_STEP = 10.0  # Widths of the box that a coordinate of mean slope would go in the first step.


@dataclass(eq=False)
class BoxSearch:
    """Solves in one box, an ℓ∞ ball with widths.

    Attributes:
        best: Highest loss of all.
        best_place: Where it was, in widths of the box.
        highest: Highest loss of each solve.
        solves: What SciPy said of each.
    """

    meter: Meter
    box: Ball
    best: float = -numpy.inf
    best_place: numpy.ndarray | None = None
    highest: list[float] = field(default_factory=list)
    solves: list[OptimizeResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.box.scale is not None
        self._widths = self.box.rho * _numbers(self.box.scale)
        self._scale, self._attempt = 1.0, -numpy.inf

    def inside(self, *seeds: int) -> numpy.ndarray:
        """Return a random point z of the box, uniformly, shape (p,)."""
        unit = torch.rand(len(self._widths), generator=generator(*seeds), dtype=torch.float64).numpy()
        point: numpy.ndarray = (2 * unit - 1) * self._widths
        return point

    def towards(self, direction: Tensor) -> numpy.ndarray:
        """Return the point half way to the corner that a direction by z points to."""
        point: numpy.ndarray = 0.5 * self._widths * numpy.sign(_numbers(direction))
        return point

    def solve(self, start: numpy.ndarray, iterations: int) -> None:
        """Run L-BFGS-B from a point z of the box."""
        self._scale, self._attempt = 1.0, -numpy.inf
        slope = self._evaluate(start)[1]
        self._scale = _FIRST_STEP * float(self._widths.mean()) / max(float(numpy.abs(slope).mean()), numpy.finfo(float).tiny)
        self.solves.append(
            minimize(
                self._evaluate,
                start,
                method="L-BFGS-B",
                jac=True,
                bounds=Bounds(-self._widths, self._widths),
                options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
            )
        )
        self.highest.append(self._attempt)

    def take(self, loss: float, place: Tensor) -> None:
        """Remember a point that another search has found, if it is the highest."""
        if loss > self.best:
            self.best, self.best_place = loss, _numbers(place)

    @property
    def share_at_bound(self) -> float:
        """The share of coordinates of the best point that lie on a wall of the box."""
        assert self.best_place is not None
        return float(numpy.mean(numpy.abs(self.best_place) >= 1 - 1e-6))

    def _evaluate(self, point: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        """Return -scale·f and its gradient by z: what a minimiser needs to climb."""
        place = torch.from_numpy(point / self._widths).to(self.meter.theta)
        loss, gradient = self.meter.slope(self.box.offset(place))
        self._attempt = max(self._attempt, loss)
        self.take(loss, place)
        return -self._scale * loss, -self._scale * _numbers(self.box.along(gradient))


def _numbers(tensor: Tensor | None) -> numpy.ndarray:
    assert tensor is not None
    found: numpy.ndarray = tensor.detach().cpu().double().numpy()
    return found
