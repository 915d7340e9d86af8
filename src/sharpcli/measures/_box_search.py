"""L-BFGS-B in the box of ε-sharpness; the highest of all evaluated points is stored.

The solver is that of SciPy, to follow the paper. Its known problems are avoided:

* It starts at a random point inside the box, not at the weights, where the gradient vanishes and it would stop at once
  with the result 0; its own stopping rules are switched off.
* The best value over *all* evaluations counts, not the last iterate.
* If the gradient is 0 at the start, the solver is not called.
* The loss is scaled so that the first step crosses the box, for any size of the gradient: L-BFGS-B starts with the
  identity as its Hessian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy
import torch
from scipy.optimize import Bounds, OptimizeResult, minimize
from torch import Tensor

from sharpcli import progress
from sharpcli.measures._ascent import Ball, Top
from sharpcli.measures._reading import Meter
from sharpcli.runtime import generator

_LARGE = 1e200  # Upper limit of scaled losses.
_FIRST_STEP = 10.0  # Length of the first step of a coordinate with mean slope, in widths of the box.


@dataclass(eq=False)
class BoxSearch:
    """Solves in one box, an ℓ∞ ball with its own width in each coordinate.

    Attributes:
        tops: Highest point of each solve.
        solves: SciPy's result of each solve.
    """

    meter: Meter
    box: Ball
    tops: list[Top] = field(default_factory=list)
    solves: list[OptimizeResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.box.scale is not None
        self._widths = self.box.rho * _numbers(self.box.scale)
        self._scale = 1.0

    def random_start(self, *seeds: int) -> numpy.ndarray:
        """Return a random point z, uniformly distributed in the box, shape (p,)."""
        unit = torch.rand(len(self._widths), generator=generator(*seeds), dtype=torch.float64).numpy()
        point: numpy.ndarray = (2 * unit - 1) * self._widths
        return point

    def towards(self, direction: Tensor) -> numpy.ndarray:
        """Return the point halfway to the corner of the box to which a direction of z points."""
        point: numpy.ndarray = 0.5 * self._widths * numpy.sign(_numbers(direction))
        return point

    def solve(self, start: numpy.ndarray, iterations: int, shown: progress.Task) -> None:
        """Run L-BFGS-B from a point z of the box, and show each iteration."""
        self._scale = 1.0
        self.tops.append(Top(-math.inf, self._place(start)))
        loss, slope = self._evaluate(start)
        if not slope.any():
            self.solves.append(OptimizeResult(nit=0, message="There is no gradient at the start."))
            return
        # If the slope is so small that the scaled loss would overflow, the first step is shorter.
        least = _FIRST_STEP * self._widths.mean() * max(abs(loss), 1.0) / _LARGE
        self._scale = _FIRST_STEP * float(self._widths.mean()) / max(float(numpy.abs(slope).mean()), least)
        self.solves.append(
            minimize(
                self._evaluate,
                start,
                method="L-BFGS-B",
                jac=True,
                bounds=Bounds(-self._widths, self._widths),
                options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
                callback=lambda _point: shown.advance(1, rise=self.tops[-1].loss - self.meter.base),
            )
        )

    def _evaluate(self, point: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        """Return -scale·f and its gradient with respect to z, since the solver minimises."""
        place = self._place(point)
        loss, gradient = self.meter.slope(self.box.offset(place))
        if loss > self.tops[-1].loss:
            self.tops[-1] = Top(loss, place)
        return -self._scale * loss, -self._scale * _numbers(self.box.along(gradient))

    def _place(self, point: numpy.ndarray) -> Tensor:
        return torch.from_numpy(point / self._widths).to(self.meter.theta.dtype).to(self.meter.theta.device)


def _numbers(tensor: Tensor | None) -> numpy.ndarray:
    assert tensor is not None
    array: numpy.ndarray = tensor.detach().cpu().double().numpy()
    return array
