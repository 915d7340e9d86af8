"""Fisher-Rao norm: how much the loss changes, sample by sample, as all weights grow in proportion.

Reference: Liang et al., AISTATS 2019 (with the labels of the data, hence the empirical Fisher matrix).
"""

from __future__ import annotations

import math

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.jacobian import Sandwich
from sharpcli.measures._reading import BATCH_NORM, RELU_PAIRS, Meter
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "‖θ‖_fr = √(θᵀ F θ) = √(E ⟨θ, ∇ℓ_i⟩²), F the empirical Fisher matrix"
INVARIANT = {"": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = (
    "A norm of the function at its weights, not a curvature: it goes to 0 with the gradients of the samples as they are fitted."
)
COST = "2 gradients; exact"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0) -> Reading:  # noqa: ARG001
    """Return ‖θ‖_fr, exactly, from one Jacobian-vector product: the slopes of all terms along θ.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Not used: nothing is random.
    """
    meter = Meter("fisher-rao", objective, theta, {}, unit="loss")
    parts = list(objective.space.split(theta).values())

    def squares(chunk: Chunk) -> Tensor:
        leaves = objective.leaves(theta)
        terms = objective.criterion.terms(objective.outputs(leaves, chunk.inputs, {}), chunk.targets)
        along = Sandwich.of(list(leaves.values()), terms, lambda given: given).along(parts, keep=False)
        return along.double().square().sum()

    meter.passes = 4
    square = float(objective.mean_over_data(squares))
    return meter.reading(math.sqrt(square), squared=square)
