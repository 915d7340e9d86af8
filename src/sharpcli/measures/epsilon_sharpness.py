"""ε-sharpness: the largest relative rise of the loss in a small box around the weights, in percent.

With f the mean loss, x the weights and, for a matrix A (n, p),

    C_ε = { z in R^p : |z_i| <= ε (|(A⁺x)_i| + 1) },
    φ(ε, A) = 100 (max_{z in C_ε} f(x + Az) - f(x)) / (1 + f(x)).

A is the identity (full space) or has independent N(0, 1) entries (random subspace). The maximum is
sought by L-BFGS-B, so φ is always a lower bound. Four traps of this measure are avoided:

* The search starts at a random point inside the box, not at x, where the gradient vanishes and
  L-BFGS-B would stop at once and answer 0; its own stopping rules are switched off.
* The best value over *all* evaluations counts, not the last iterate.
* The loss is scaled so that the first step is as long as the box is wide. L-BFGS-B starts with
  the identity as its Hessian; unscaled, ten iterations may not reach the walls.
* A⁺x comes from the p x p Gram system (AᵀA) c = Aᵀx, never from a dense pseudo-inverse.

Reference: Keskar et al., ICLR 2017, Metric 2.1, equation (3), tables 3 and 4.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy
import torch
from scipy.optimize import Bounds, OptimizeResult, minimize
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import SettingsError
from sharpcli.linalg.reductions import accumulator_of, combine, project
from sharpcli.objective import Objective
from sharpcli.results import Measurement
from sharpcli.runtime import generator

_FIRST_STEP = 10.0  # Widths of the box that a coordinate of mean slope would go in the first step.


@dataclass(eq=False)
class _Box:
    """The box in z, and the map z -> x + Az with its transpose."""

    theta: Tensor
    widths: numpy.ndarray
    rows: Tensor | None  # Aᵀ, shape (p, n); None in the full space

    def point(self, offset: numpy.ndarray) -> Tensor:
        z = torch.from_numpy(offset).to(self.theta.dtype if self.rows is None else accumulator_of(self.theta))
        z = z.to(self.theta.device)
        return self.theta + (z if self.rows is None else combine(z, self.rows))

    def pull_back(self, gradient: Tensor) -> numpy.ndarray:
        slope = gradient if self.rows is None else project(self.rows, gradient)
        return slope.double().cpu().numpy()


@dataclass(eq=False)
class _Search:
    """f over the box, remembering the highest value it has met."""

    objective: Objective
    box: _Box
    best: float = -numpy.inf
    best_offset: numpy.ndarray | None = None
    evaluations: int = 0
    scale: float = field(default=1.0)

    def __call__(self, offset: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        """Return -scale·f and its gradient in z: what a minimiser needs to climb."""
        loss, gradient = self.objective.loss_and_gradient(self.box.point(offset))
        self.evaluations += 1
        if loss > self.best:
            self.best, self.best_offset = loss, offset.copy()
        return -self.scale * loss, -self.scale * self.box.pull_back(gradient)


def measure(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    epsilon: float = 1e-3,
    subspace: int = 0,
    iterations: int = 10,
    restarts: int = 2,
) -> Measurement:
    """Return φ(ε, A) as the best of several L-BFGS-B solves.

    Args:
        objective: f, the mean loss.
        theta: x, shape (P,).
        seed: Of the random starts and of A.
        epsilon: ε > 0. No unit.
        subspace: p, at most P; 0 is the full space.
        iterations: L-BFGS-B iterations of each solve; 10 in the paper.
        restarts: Number of solves, each from its own random start.

    Returns:
        φ in percent, with every solve's own φ. `status` is "failed", and φ None, if no point of the
        box was found to be higher than x.

    Raises:
        SettingsError: p > P.
        NumericalError: The loss is not finite somewhere in the box.
    """
    started = time.perf_counter()
    base = objective.loss(theta)
    box = _make_box(theta, epsilon, subspace, seed)
    label = f"ε-sharpness ε={epsilon:g} {f'p={subspace}' if subspace else 'full space'}"
    searches, solves = [], []
    with progress.task(label, total=restarts) as shown:
        for restart in range(restarts):
            search = _Search(objective, box)
            searches.append(search)
            solves.append(_climb(search, iterations, seed, restart))
            shown.advance(1, phi=f"{_phi(search.best, base):.4g}")
    best = max(searches, key=lambda search: search.best)
    failed = not best.best > base
    return Measurement(
        measure="epsilon-sharpness",
        epsilon=epsilon,
        subspace=subspace or None,
        phi=None if failed else _phi(best.best, base),
        rise=None if failed else best.best - base,
        max_loss=None if failed else best.best,
        phi_of_restarts=tuple(_phi(search.best, base) if search.best > base else None for search in searches),
        evaluations=sum(search.evaluations for search in searches),
        iterations=tuple(int(solve.nit) for solve in solves),
        share_at_bound=None if failed else _share_at_bound(best),
        status="failed" if failed else "ok",
        solver_messages=tuple(str(solve.message) for solve in solves),
        seconds=time.perf_counter() - started,
    )


def _phi(highest: float, base: float) -> float:
    return 100 * (highest - base) / (1 + base)


def _make_box(theta: Tensor, epsilon: float, subspace: int, seed: int) -> _Box:
    if not subspace:
        return _Box(theta, epsilon * (theta.abs().double().cpu().numpy() + 1), None)
    if subspace > len(theta):
        raise SettingsError(
            f"--subspace {subspace} is more than the {len(theta)} parameters of the model.", "Use a smaller subspace, or 0."
        )
    rows = torch.randn(subspace, len(theta), generator=generator(seed, 1)).to(theta.device, theta.dtype)
    gram = torch.stack([project(rows, row) for row in rows]).double().cpu().numpy()
    coordinates = numpy.linalg.solve(gram, project(rows, theta).double().cpu().numpy())
    return _Box(theta, epsilon * (numpy.abs(coordinates) + 1), rows)


def _climb(search: _Search, iterations: int, seed: int, restart: int) -> OptimizeResult:
    """Run L-BFGS-B from a random point of the box."""
    widths = search.box.widths
    unit = torch.rand(len(widths), generator=generator(seed, 2, restart), dtype=torch.float64).numpy()
    start = (2 * unit - 1) * widths
    slope = search(start)[1]
    search.scale = _FIRST_STEP * float(widths.mean()) / max(float(numpy.abs(slope).mean()), numpy.finfo(float).tiny)
    return minimize(
        search,
        start,
        method="L-BFGS-B",
        jac=True,
        bounds=Bounds(-widths, widths),
        options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
    )


def _share_at_bound(search: _Search) -> float:
    """Return the share of coordinates of the best point that lie on a wall of the box."""
    assert search.best_offset is not None
    return float(numpy.mean(numpy.abs(search.best_offset) >= (1 - 1e-9) * search.box.widths))
