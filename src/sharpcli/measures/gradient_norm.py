"""Gradient norm: how far the weights are from a stationary point, which the other measures assume.

Reference: Keskar et al., ICLR 2017, section 2.1 (sharpness is defined around minimisers).
"""

from __future__ import annotations

from torch import Tensor

from sharpcli.linalg.reductions import norm
from sharpcli.measures._reading import Meter
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "‖∇f(θ)‖₂"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = "It is not a sharpness: it shows how much of a rise of the loss is due to the slope instead of the curvature."
COST = "1 gradient"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0) -> Reading:  # noqa: ARG001
    """Return ‖∇f(θ)‖₂, exactly.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Not used: nothing is random.
    """
    meter = Meter("gradient-norm", objective, theta, {}, unit="loss / weight")
    _, slope = meter.slope(theta.new_zeros(len(theta)))
    return meter.reading(norm(slope), relative_to_weights=norm(slope) * norm(theta))
