"""ε-sharpness: the largest relative rise of the loss in a small box around the weights, in percent.

With f the mean loss, x the weights and, for a matrix A (n, p),

    C_ε = { z in R^p : |z_i| <= ε (|(A⁺x)_i| + 1) },
    φ(ε, A) = 100 (max_{z in C_ε} f(x + Az) - f(x)) / (1 + f(x)).

A is the identity (full space) or has independent N(0, 1) entries (random subspace). The maximum is searched by L-BFGS-B
and by a sign ascent on the device, so φ is always a lower bound. The ascent tries both of two opposite corners, which random
starts alone do not: its φ was up to 1.7 times as high (docs/performance.md). The result of a search is evaluated again in
float64, which also shows whether it could be a rounding error. A⁺x is computed from the p x p Gram system (AᵀA) c = Aᵀx,
never from a dense pseudo-inverse.

Reference: Keskar et al., ICLR 2017, Metric 2.1, equation (3), tables 3 and 4.
"""

from __future__ import annotations

import time
from typing import Any

import numpy
import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import SettingsError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.reductions import accumulator_of, dot, gram, project
from sharpcli.linalg.wanted import Wanted
from sharpcli.measures._ascent import NORMS, Ball, Top, climb, num_steps
from sharpcli.measures._box_search import BoxSearch
from sharpcli.measures._reading import Meter, require_at_least, require_positive
from sharpcli.measures._settling import Settled, settle
from sharpcli.objective import Objective
from sharpcli.results import Measurement, Reading
from sharpcli.runtime import generator

DEFINITION = "φ = 100 (max f(θ + Az) - f(θ)) / (1 + f(θ)) over |z_i| ≤ ε (|(A⁺θ)_i| + 1)"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = "A lower bound that grows with P and with ‖θ‖. The + 1 in the box makes it depend on the scale of the weights."
COST = "draws × restarts × about 36 gradients, 24 of them for the ascent, and 2 evaluations in float64 per draw"
VARIANTS: tuple[dict[str, object], ...] = ({}, {"solver": "ascent"}, {"subspace": 100})
_SOLVERS = ("both", "lbfgsb", "ascent")
_PASSES_OF_A_PRODUCT = 4


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
    solver: str = "both",
) -> Measurement:
    """Return φ(ε, A): the best of several L-BFGS-B solves and sign ascents, or of only one kind.

    Args:
        objective: f, the mean loss.
        theta: x, shape (P,).
        seed: Seed of the random starts and of A.
        epsilon: ε > 0. No unit.
        subspace: p, at most P; 0 is the full space.
        iterations: L-BFGS-B iterations of each solve, and final steps of each sign ascent; 10 in the paper.
        restarts: Number of searches of each kind, each from its own random start.
        draws: Number of matrices A, each with its own solves; φ is the mean over them. One in the full space.
        eigenvector: Whether to add a solve in the full space, started in the direction of the corner to which the first
            eigenvector of the Hessian points; it is the last of `phi_of_restarts`.
        solver: "lbfgsb", "ascent", or "both".

    Returns:
        φ in percent, with the φ of every search. `status` is "failed" and φ is None if in some box no point was found
        where the loss is higher than at x.

    Raises:
        SettingsError: p > P.
        NumericalError: The loss is not finite somewhere in the box.
    """
    started, meter = time.perf_counter(), Meter("epsilon-sharpness", objective, theta, {})
    draws, ascents = draws if subspace else 1, 0 if solver == "lbfgsb" else restarts
    solves = 0 if solver == "ascent" else restarts + (eigenvector and not subspace)
    maxima: list[Settled] = []
    said: list[Any] = []
    for draw in progress.each("ε-sharpness draw", range(draws)):
        answers: list[Any] = []

        def search(meter: Meter, draw: int = draw, answers: list[Any] = answers) -> tuple[Ball, list[Top]]:
            box = _make_box(meter.theta, epsilon, subspace, seed, draw)
            solver = BoxSearch(meter, box)
            total = solves * iterations + num_steps(iterations, ascents)
            with progress.task("ε-sharpness", total=total, units="gradients") as shown:
                shown.advance(0, epsilon=epsilon, space=subspace or "full")
                for attempt in range(solves):
                    if attempt < restarts:
                        start = solver.random_start(seed, streams.BOX_START, draw, attempt)
                    else:
                        start = solver.towards(_uphill(meter, seed))
                    solver.solve(start, iterations, shown)
                    shown.advance(iterations - int(solver.solves[-1].nit))  # It may have stopped earlier.
                climbed = climb(meter, box, steps=iterations, restarts=ascents, seeds=(seed, draw), shown=shown)
            answers[:] = solver.solves
            return box, solver.tops + climbed

        maxima.append(settle(meter, search))
        said += answers
    phis = [_phi(one.rise, one.base) for one in maxima]
    solid = [phi for phi in phis if phi is not None]
    failed = len(solid) < len(phis)
    notes = [one.note for one in maxima if one.note and (one.rise is None or not failed)]
    rises = [one.rise or 0.0 for one in maxima]
    return Measurement(
        measure="epsilon-sharpness",
        epsilon=epsilon,
        subspace=subspace or None,
        phi=None if failed else float(numpy.mean(solid)),
        rise=None if failed else float(numpy.mean(rises)),
        max_loss=None if failed else maxima[0].base + max(rises),
        standard_error=None if failed or draws < 2 else float(numpy.std(solid, ddof=1) / draws**0.5),
        phi_of_draws=tuple(phis),
        phi_of_restarts=tuple(_phi(rise, one.base) for one in maxima for rise in one.rises[:solves]),
        phi_of_sign_ascent=tuple(_phi(rise, one.base) for one in maxima for rise in one.rises[solves:]),
        evaluations=meter.evaluations,
        passes=meter.passes,
        iterations=tuple(int(solve.nit) for solve in said),
        share_at_bound=None if failed else float(numpy.mean([_share_at_bound(one.place) for one in maxima])),
        status="failed" if failed else "ok",
        note=notes[0] if notes else "",
        solver_messages=tuple(str(solve.message) for solve in said),
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
    solver: str = "both",
) -> Reading:
    """Return φ in the common form of all measures; see `measure`. A box of size 0 gives 0."""
    require_at_least(0, epsilon=epsilon, subspace=subspace)
    require_positive(iterations=iterations, restarts=restarts, draws=draws)
    if solver not in _SOLVERS:
        raise SettingsError(f"The option solver is '{solver}', but must be both, lbfgsb or ascent.", "Write solver=ascent.")
    options: dict[str, Any] = {
        "epsilon": epsilon,
        "subspace": subspace,
        "iterations": iterations,
        "restarts": restarts,
        "draws": draws,
        "eigenvector": eigenvector,
        "solver": solver,
    }
    meter = Meter("epsilon-sharpness", objective, theta, options, unit="%")
    if epsilon == 0:
        return meter.reading(0.0, bound="lower")
    sharpness = measure(objective, theta, seed=seed, **options)
    meter.passes = sharpness.passes
    solves, ascents = (
        [phi for phi in phis if phi is not None] for phis in (sharpness.phi_of_restarts, sharpness.phi_of_sign_ascent)
    )
    return meter.reading(
        sharpness.phi,
        standard_error=sharpness.standard_error,
        bound="lower",
        note=sharpness.note,
        lowest_solve=min(solves, default=None),
        highest_solve=max(solves, default=None),
        sign_ascent=max(ascents, default=None),
        share_at_bound=sharpness.share_at_bound,
        rise=sharpness.rise,
    )


def _uphill(meter: Meter, seed: int) -> Tensor:
    """Return the first eigenvector of the Hessian (P,), with the sign for which the loss rises."""
    pairs = eigenpairs(operator_of("hessian", meter.objective, meter.theta), Wanted(1), seed=seed)
    vector, slope = pairs.vectors[0], meter.slope(torch.zeros_like(meter.theta))[1]
    meter.passes += _PASSES_OF_A_PRODUCT * (pairs.steps + pairs.confirmations + pairs.verifications)
    return vector if dot(vector, slope.to(vector.dtype)) >= 0 else -vector


def _phi(rise: float | None, base: float) -> float | None:
    """Return φ in percent, or None if it is not proved that the loss rises."""
    return 100 * rise / (1 + base) if rise is not None and rise > 0 else None


def _share_at_bound(place: Tensor) -> float:
    """Return the share of coordinates of a point that lie on a wall of the box."""
    return float((place.abs() >= 1 - 1e-6).double().mean())


def _make_box(theta: Tensor, epsilon: float, subspace: int, seed: int, draw: int = 0) -> Ball:
    if not subspace:
        return Ball(epsilon, NORMS["inf"], theta.abs().to(accumulator_of(theta)) + 1)
    if subspace > len(theta):
        raise SettingsError(
            f"--subspace {subspace} is more than the {len(theta)} parameters of the model.", "Use a smaller subspace, or 0."
        )
    rows = torch.randn(subspace, len(theta), generator=generator(seed, streams.SUBSPACE, draw)).to(theta.device, theta.dtype)
    coordinates = numpy.linalg.solve(gram(rows).cpu().double().numpy(), project(rows, theta).cpu().double().numpy())
    return Ball(
        epsilon, NORMS["inf"], torch.from_numpy(numpy.abs(coordinates) + 1).to(accumulator_of(theta)).to(theta.device), rows
    )
