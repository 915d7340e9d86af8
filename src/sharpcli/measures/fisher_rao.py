"""Fisher-Rao norm: how much the loss changes, sample by sample, as all weights grow in proportion.

Reference: Liang et al., AISTATS 2019 (with the labels of the data, hence the empirical Fisher matrix).
"""

from __future__ import annotations

import math

from torch import Tensor

from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.reductions import dot
from sharpcli.measures._reading import BATCH_NORM, HEADS, RELU_PAIRS, Meter
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "‖θ‖_fr = √(θᵀ F θ) = √(E ⟨θ, ∇ℓ_i⟩²), F the empirical Fisher matrix"
INVARIANT = {"": (RELU_PAIRS, BATCH_NORM, HEADS)}
MISLEADS = "It is a norm, not a curvature: it goes to 0 with the gradients of the samples as these are fitted."
COST = "about 3 gradients; exact"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0) -> Reading:  # noqa: ARG001
    """Return ‖θ‖_fr, exactly, from one product with the empirical Fisher matrix.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Not used: nothing is random.
    """
    meter = Meter("fisher-rao", objective, theta, {}, unit="loss")
    operator = operator_of("empirical-fisher", objective, theta, memory=0)
    square = max(dot(theta, operator @ theta), 0.0)
    meter.passes = 6
    return meter.reading(math.sqrt(square), squared=square)
