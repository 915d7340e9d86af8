"""Logit-normalised sharpness: adaptive worst-case sharpness of the loss of logits of mean 0 and norm 1.

Reference: Andriushchenko et al., ICML 2023 (logit normalisation), with their adaptive ℓ∞ ball.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sharpcli.errors import SettingsError
from sharpcli.losses import loss_named
from sharpcli.measures import worst_case
from sharpcli.measures._reading import BATCH_NORM, RELU_PAIRS
from sharpcli.objective import Objective
from sharpcli.results import Reading
from sharpcli.settings.losses import unit_logits

LOGIT_SCALE = "rescaled logits"
DEFINITION = "worst case, ‖δ / |θ|‖∞ ≤ ρ, of the cross-entropy of (z - mean z) / ‖z - mean z‖₂"
INVARIANT = {"": (RELU_PAIRS, BATCH_NORM, LOGIT_SCALE)}
MISLEADS = "It measures another loss than the trained one. Unit logits never fit perfectly, so it does not go to 0."
COST = "restarts × (steps + 12) gradients, and 2 evaluations in float64"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    rho: float = 0.01,
    norm: str = "inf",
    steps: int = 10,
    restarts: int = 2,
) -> Reading:
    """Return the largest rise that projected gradient ascent finds; see `worst_case.read`.

    Raises:
        SettingsError: A size is out of range, or the loss is not cross-entropy.
    """
    name = unit_logits(objective.loss_name)
    if name is None:
        raise SettingsError(
            "The measure logit-normalised needs cross-entropy without smoothing.",
            "Leave logit-normalised out, or use --loss ce.",
        )
    other = replace(objective, criterion=loss_named(name))
    reading = worst_case.read(other, theta, seed=seed, rho=rho, norm=norm, adaptive=True, steps=steps, restarts=restarts)
    options = {"rho": rho, "norm": norm, "steps": steps, "restarts": restarts}
    return replace(reading, measure="logit-normalised", options=options, details={**reading.details, "loss": other.loss(theta)})
