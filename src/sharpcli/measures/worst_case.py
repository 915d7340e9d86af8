"""Worst-case sharpness: the largest rise of the loss in an ℓ2 or ℓ∞ ball around the weights.

Reference: Foret et al., ICLR 2021 (SAM, ℓ2); Kwon et al., ICML 2021 (adaptive); Andriushchenko et al., ICML 2023.
"""

from __future__ import annotations

from torch import Tensor

from sharpcli import progress
from sharpcli.errors import SettingsError
from sharpcli.linalg.reductions import accumulator_of
from sharpcli.measures._ascent import NORMS, Ball, Top, climb, num_steps
from sharpcli.measures._reading import BATCH_NORM, RELU_PAIRS, Meter, require_at_least, require_positive
from sharpcli.measures._settling import settle
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "max f(θ + δ) - f(θ) over ‖δ‖ ≤ ρ in ℓ2 or ℓ∞; adaptive: ‖δ / |θ|‖ ≤ ρ, entry by entry"
INVARIANT = {"adaptive=true": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = (
    "A lower bound. In ℓ∞ it grows with the number of parameters. A weight of exactly 0 does not move in the adaptive ball."
)
COST = "restarts × (steps + 12) gradients, and 2 evaluations in float64"
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"norm": "inf", "rho": 0.001},
    {"adaptive": True, "rho": 0.5},
    {"adaptive": True, "norm": "inf", "rho": 0.01},
)


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    rho: float = 0.05,
    norm: str = "2",
    adaptive: bool = False,
    steps: int = 10,
    restarts: int = 2,
) -> Reading:
    """Return the largest rise that projected gradient ascent finds, on the device of θ, evaluated in float64.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Seed of the random starts.
        rho: Radius ρ ≥ 0; a fraction of each weight if adaptive.
        norm: "2" or "inf".
        adaptive: Whether the ball is scaled by |θ|.
        steps: Steps of each ascent, after twelve steps that choose between opposite sides.
        restarts: Number of ascents, each from its own random point of the ball.

    Raises:
        SettingsError: A size is out of range, or there is no such norm.
        NumericalError: The loss is not finite somewhere in the ball.
    """
    require_at_least(0, rho=rho)
    require_positive(steps=steps, restarts=restarts)
    if str(norm) not in NORMS:
        raise SettingsError(f"The option norm is '{norm}', but must be 2 or inf.", "Write norm=2 or norm=inf.")
    options = {"rho": rho, "norm": str(norm), "adaptive": adaptive, "steps": steps, "restarts": restarts}
    meter = Meter("worst-case", objective, theta, options)
    if rho == 0:
        return meter.reading(0.0, bound="lower")

    def search(meter: Meter) -> tuple[Ball, list[Top]]:
        ball = Ball(rho, NORMS[str(norm)], meter.theta.abs().to(accumulator_of(meter.theta)) if adaptive else None)
        with progress.task("worst case", total=num_steps(steps, restarts), units="gradients") as shown:
            return ball, climb(meter, ball, steps=steps, restarts=restarts, seeds=(seed,), shown=shown)

    maximum = settle(meter, search)
    return meter.reading(
        maximum.rise,
        bound="lower",
        note=maximum.note,
        lowest_restart=min(maximum.rises),
        highest_restart=max(maximum.rises),
        fraction_of_radius=maximum.ball.size(maximum.place),
    )
