"""Fisher-Rao norm: how much the loss changes, sample by sample, as all weights grow in proportion.

Reference: Liang et al., AISTATS 2019 (with the labels of the data, hence the empirical Fisher matrix).
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.measures._reading import BATCH_NORM, RELU_PAIRS, Meter
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "‖θ‖_fr = √(θᵀ F θ) = √(E ⟨θ, ∇ℓ_i⟩²), F the empirical Fisher matrix"
INVARIANT = {"": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = (
    "A norm of the function at its weights, not a curvature: it goes to 0 with the gradients of the samples as they are fitted."
)
COST = "1 forward-mode pass; exact"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0) -> Reading:  # noqa: ARG001
    """Return ‖θ‖_fr, exactly, from one Jacobian-vector product.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Not used: nothing is random.
    """
    meter = Meter("fisher-rao", objective, theta, {}, unit="loss")

    def squares(chunk: Chunk) -> Tensor:
        def terms(vector: Tensor) -> Tensor:
            outputs = objective.outputs(objective.space.split(vector), chunk.inputs, {})
            return objective.criterion.terms(outputs, chunk.targets)

        along: Tensor = torch.func.jvp(terms, (theta,), (theta,))[1]
        return along.double().square().sum()

    meter.passes = 2
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch gives some when its forward differentiation is loaded.
        square = float(objective.mean_over_data(squares))
    return meter.reading(math.sqrt(square), squared=square)
