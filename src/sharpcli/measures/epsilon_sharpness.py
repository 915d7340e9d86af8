"""ε-sharpness: the largest relative rise of the loss in a small box around the weights, in percent.

With f the mean loss, x the weights and, for a matrix A (n, p),

    C_ε = { z in R^p : |z_i| <= ε (|(A⁺x)_i| + 1) },
    φ(ε, A) = 100 (max_{z in C_ε} f(x + Az) - f(x)) / (1 + f(x)).

A is the identity (full space) or has independent N(0, 1) entries (random subspace). The maximum is
sought by L-BFGS-B, so φ is always a lower bound. Traps of this measure that are avoided:

* The search starts at a random point inside the box, not at x, where the gradient vanishes and
  L-BFGS-B would stop at once and answer 0; its own stopping rules are switched off.
* The best value over *all* evaluations counts, not the last iterate.
* The loss is scaled so that the first step is as long as the box is wide, whatever the size of
  the gradient: L-BFGS-B starts with the identity as its Hessian.
* A sign ascent of as many steps runs beside it: ten L-BFGS-B iterations can end far below it.
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
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import SettingsError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.reductions import accumulator_of, combine, dot, gram, project
from sharpcli.linalg.search import Wanted
from sharpcli.measures._ascent import NORMS, Ball, climb
from sharpcli.measures._reading import Meter, require_positive, require_radius
from sharpcli.objective import Objective
from sharpcli.results import Measurement, Reading
from sharpcli.runtime import generator

DEFINITION = "φ = 100 (max f(θ + Az) - f(θ)) / (1 + f(θ)) over |z_i| ≤ ε (|(A⁺θ)_i| + 1)"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = "A lower bound that grows with P and with ‖θ‖; the + 1 in the box breaks the invariance that the rest suggests."
COST = "draws × (restarts + 1) × about 12 gradients"
VARIANTS: tuple[dict[str, object], ...] = ({}, {"solver": "ascent"}, {"subspace": 100})
_SOLVERS = ("lbfgsb", "ascent")
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
        return slope.cpu().double().numpy()


@dataclass(eq=False)
class _Search:
    """f over the box, remembering the highest value it has met."""

    objective: Objective
    box: _Box
    base: float
    best: float = -numpy.inf
    best_offset: numpy.ndarray | None = None
    attempt: float = -numpy.inf
    highest: list[float] = field(default_factory=list)
    solves: list[OptimizeResult] = field(default_factory=list)
    evaluations: int = 0
    scale: float = 1.0

    def __call__(self, offset: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        """Return -scale·f and its gradient in z: what a minimiser needs to climb."""
        loss, gradient = self.objective.loss_and_gradient(self.box.point(offset))
        self.evaluations += 1
        self.attempt = max(self.attempt, loss)
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
    draws: int = 3,
    eigenvector: bool = False,
) -> Measurement:
    """Return φ(ε, A): the best of several L-BFGS-B solves and of one sign ascent.

    Args:
        objective: f, the mean loss.
        theta: x, shape (P,).
        seed: Of the random starts and of A.
        epsilon: ε > 0. No unit.
        subspace: p, at most P; 0 is the full space.
        iterations: L-BFGS-B iterations of each solve, and steps of the sign ascent; 10 in the paper.
        restarts: Number of solves, each from its own random start.
        draws: Number of matrices A, each with its own solves; φ is the mean over them. One in the full space.
        eigenvector: One more solve in the full space, from the corner that the top eigenvector of the Hessian points to;
            among `phi_of_restarts` it is the last.

    Returns:
        φ in percent, with every search's own φ. `status` is "failed", and φ None, if no point of a
        box was found to be higher than x.

    Raises:
        SettingsError: p > P.
        NumericalError: The loss is not finite somewhere in the box.
    """
    started = time.perf_counter()
    base, draws = objective.loss(theta), draws if subspace else 1
    label = f"ε-sharpness ε={epsilon:g} {f'p={subspace}' if subspace else 'full space'}"
    found = []
    with progress.task(label, total=draws * (restarts + 1)) as shown:
        for draw in range(draws):
            box = _make_box(theta, epsilon, subspace, seed, draw)
            starts = [_inside(box.widths, (seed, 2, draw, attempt)) for attempt in range(restarts + 1)]
            if eigenvector and not subspace:
                starts.insert(-1, _towards_eigenvector(objective, theta, box, seed))
            found.append(_search_box(_Search(objective, box, base), iterations, starts, shown))
    phis = [_phi(draw.best, base) for draw in found]
    solid = [phi for phi in phis if phi is not None]
    failed = len(solid) < len(phis)
    solves = [solve for draw in found for solve in draw.solves]
    return Measurement(
        measure="epsilon-sharpness",
        epsilon=epsilon,
        subspace=subspace or None,
        phi=None if failed else float(numpy.mean(solid)),
        rise=None if failed else float(numpy.mean([draw.best - base for draw in found])),
        max_loss=None if failed else max(draw.best for draw in found),
        standard_error=None if failed or draws < 2 else float(numpy.std(solid, ddof=1) / draws**0.5),
        phi_of_draws=tuple(phis),
        phi_of_restarts=tuple(_phi(value, base) for draw in found for value in draw.highest[:-1]),
        phi_of_sign_ascent=tuple(_phi(draw.highest[-1], base) for draw in found),
        evaluations=sum(draw.evaluations for draw in found),
        iterations=tuple(int(solve.nit) for solve in solves),
        share_at_bound=None if failed else float(numpy.mean([_share_at_bound(draw) for draw in found])),
        status="failed" if failed else "ok",
        solver_messages=tuple(str(solve.message) for solve in solves),
        seconds=time.perf_counter() - started,
    )


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    epsilon: float = 1e-3,
    subspace: int = 0,
    iterations: int = 10,
    restarts: int = 2,
    draws: int = 3,
    eigenvector: bool = False,
    solver: str = "lbfgsb",
) -> Reading:
    """Return φ in the form that all measures share; see `measure`. A box of size 0 gives 0.

    With `solver="ascent"` one projected sign ascent on the device takes the place of L-BFGS-B: two to four times as fast, at
    0.88 to 1.02 of its value (docs/performance.md); of 2 * iterations steps, in the full space only.
    """
    require_radius(epsilon=epsilon, subspace=subspace)
    require_positive(iterations=iterations, restarts=restarts, draws=draws)
    if solver not in _SOLVERS:
        raise SettingsError(f"The option solver is '{solver}', but must be lbfgsb or ascent.", "Write solver=ascent.")
    if solver == "ascent" and subspace:
        raise SettingsError("solver=ascent is for the full space.", "Leave subspace out, or use solver=lbfgsb.")
    options: dict[str, object] = {
        "epsilon": epsilon,
        "subspace": subspace,
        "iterations": iterations,
        "restarts": restarts,
        "draws": draws,
    }
    options |= {"eigenvector": eigenvector, "solver": solver}
    meter = Meter("epsilon-sharpness", objective, theta, options, unit="%")
    if epsilon == 0:
        return meter.reading(0.0, bound="lower")
    if solver == "ascent":
        return _ascended(meter, epsilon, iterations, seed)
    found = measure(
        objective,
        theta,
        seed=seed,
        epsilon=epsilon,
        subspace=subspace,
        iterations=iterations,
        restarts=restarts,
        draws=draws,
        eigenvector=eigenvector,
    )
    meter.passes = 2 * found.evaluations
    solves = [phi for phi in found.phi_of_restarts if phi is not None]
    return meter.reading(
        found.phi,
        standard_error=found.standard_error,
        bound="lower",
        lowest_solve=min(solves, default=None),
        highest_solve=max(solves, default=None),
        sign_ascent=found.phi_of_sign_ascent[0],
        share_at_bound=found.share_at_bound,
        rise=found.rise,
    )


def _ascended(meter: Meter, epsilon: float, iterations: int, seed: int) -> Reading:
    """Climb in the box, which in the full space is a scaled ℓ∞ ball, without leaving the device."""
    base = meter.objective.loss(meter.theta)
    steps, ball = 2 * iterations, Ball(epsilon, NORMS["inf"], meter.theta.abs() + 1)
    with progress.task("ε-sharpness by ascent", total=steps) as shown:
        found = climb(meter, ball, steps=steps, restarts=1, seed=seed, shown=shown)
    phi = None if found.rise is None else 100 * found.rise / (1 + base)
    return meter.reading(phi, bound="lower", rise=found.rise)


def _search_box(search: _Search, iterations: int, starts: list[numpy.ndarray], shown: progress.Task) -> _Search:
    """Solve from every start but the last, and ascend from that; the search keeps the highest point of each, and of all."""
    for attempt, start in enumerate(starts):
        search.attempt = -numpy.inf
        if attempt < len(starts) - 1:
            search.solves.append(_climb(search, start, iterations))
        else:
            _ascend(search, start, iterations)
        search.highest.append(search.attempt)
        shown.advance(1, phi=f"{100 * (search.best - search.base) / (1 + search.base):.4g}")
    return search


def _towards_eigenvector(objective: Objective, theta: Tensor, box: _Box, seed: int) -> numpy.ndarray:
    """Return the point half way to the corner that the top eigenvector points to, on the side that is uphill."""
    vector = eigenpairs(operator_of("hessian", objective, theta), Wanted(1), seed=seed).vectors[0]
    side = 1.0 if dot(vector, objective.gradient(theta).to(vector.dtype)) >= 0 else -1.0
    start: numpy.ndarray = 0.5 * side * box.widths * numpy.sign(vector.cpu().double().numpy())
    return start


def _phi(highest: float, base: float) -> float | None:
    """Return φ in percent, or None where nothing was higher than the weights themselves."""
    return 100 * (highest - base) / (1 + base) if highest > base else None


def _make_box(theta: Tensor, epsilon: float, subspace: int, seed: int, draw: int = 0) -> _Box:
    if not subspace:
        return _Box(theta, epsilon * (theta.abs().cpu().double().numpy() + 1), None)
    if subspace > len(theta):
        raise SettingsError(
            f"--subspace {subspace} is more than the {len(theta)} parameters of the model.", "Use a smaller subspace, or 0."
        )
    rows = torch.randn(subspace, len(theta), generator=generator(seed, 1, draw)).to(theta.device, theta.dtype)
    coordinates = numpy.linalg.solve(gram(rows).cpu().double().numpy(), project(rows, theta).cpu().double().numpy())
    return _Box(theta, epsilon * (numpy.abs(coordinates) + 1), rows)


def _inside(widths: numpy.ndarray, seeds: tuple[int, ...]) -> numpy.ndarray:
    """Return a random point of the box."""
    unit = torch.rand(len(widths), generator=generator(*seeds), dtype=torch.float64).numpy()
    point: numpy.ndarray = (2 * unit - 1) * widths
    return point


def _climb(search: _Search, start: numpy.ndarray, iterations: int) -> OptimizeResult:
    """Run L-BFGS-B."""
    widths = search.box.widths
    search.scale = 1.0
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


def _ascend(search: _Search, start: numpy.ndarray, iterations: int) -> None:
    """Step by the sign of the gradient: first from corner to corner, then half as far each time.

    Where the loss is convex every corner is higher than the one before (Frank-Wolfe with full steps).
    """
    widths, offset = search.box.widths, start
    search.scale = 1.0
    for step in range(iterations):
        length = 2.0 if step < iterations / 2 else 2.0 ** (iterations / 2 - step)
        uphill = -search(offset)[1]
        offset = numpy.clip(offset + length * widths * numpy.sign(uphill), -widths, widths)
    search(offset)


def _share_at_bound(search: _Search) -> float:
    """Return the share of coordinates of the best point that lie on a wall of the box."""
    assert search.best_offset is not None
    return float(numpy.mean(numpy.abs(search.best_offset) >= (1 - 1e-9) * search.box.widths))
