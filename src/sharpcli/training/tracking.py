"""Quantities that are tracked during training: the distance from the initial weights, and the sharpness of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli.batchnorm import batch_norms
from sharpcli.curvature.operators import operator_of
from sharpcli.curvature.stability import largest_stable
from sharpcli.files import ContentError
from sharpcli.inputs import Inputs, InputSource, chosen
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.reductions import square
from sharpcli.linalg.wanted import Wanted
from sharpcli.losses import smoothed
from sharpcli.objective import Objective
from sharpcli.parameters import ParameterSpace
from sharpcli.runtime import Runtime
from sharpcli.settings.base import TOLERANCE
from sharpcli.training.batches import Batches
from sharpcli.training.plan import TrainingPlan

_PER_DECADE = 20
_MOST_PRODUCTS = 100


def is_log_spaced(update: int) -> bool:
    """Return whether a number of updates is one of about 20 per decade: 1, 2, 3, ..., 10, 11, 13, 14, 16, ..., 100, 112, ..."""
    if update < 1:
        return False
    power = round(_PER_DECADE * math.log10(update))
    return round(10 ** (power / _PER_DECADE)) == update


@dataclass(frozen=True, eq=False)
class DistanceTracker:
    """Tracks ‖w_t - w_0‖ over all trainable parameters, at log-spaced updates (Hoffer et al. 2017).

    Attributes:
        space: Layout of the parameters.
        start: w_0, shape (P,), on the device of the model.
    """

    space: ParameterSpace
    start: Tensor

    def measure(self, update: int, theta: Tensor) -> dict[str, Any]:
        """Return one line of distances.jsonl."""
        squares = torch.stack([square(theta - self.start), square(self.start), square(theta)])
        distance, length, size = squares.sqrt().tolist()  # The host waits once.
        return {"step": update, "distance": distance, "relative": distance / length if length else None, "norm": size}


@dataclass(eq=False)
class SharpnessTracker:
    """Tracks λmax of the training loss, together with the largest value at which the updates are stable.

    The loss is that of training: the training data without augmentation, label smoothing, and BatchNorm that normalises
    the blocks of a full batch (Cohen et al. 2021). Each search starts at the previous eigenvector, which only saves products.

    Attributes:
        objective: The training loss.
        plan: Gives learning rate, momentum and weight decay.
    """

    objective: Objective
    plan: TrainingPlan
    vector: Tensor | None = field(default=None)

    @staticmethod
    def of(
        model: nn.Module,
        inputs: Inputs | InputSource,
        targets: Tensor,
        *,
        loss: str,
        plan: TrainingPlan,
        runtime: Runtime,
        batches: Batches,
    ) -> SharpnessTracker:
        """Bind the tracker to data and model; it owns a private copy of the model."""
        in_blocks = bool(batch_norms(model))
        order = batches.indices(0) if batches.is_full and batches.copies == 1 else batches.mixed()
        if in_blocks and order is not None:
            inputs, targets = chosen(inputs, order.to(targets.device)), targets[order.to(targets.device)]
        objective = Objective.of(
            model,
            inputs,
            targets,
            loss=smoothed(loss, plan.label_smoothing),
            runtime=runtime,
            bn="batch" if in_blocks else "eval",
            bn_block=plan.chunk_size,
        )
        return SharpnessTracker(objective, plan)

    def measure(self, update: int, theta: Tensor) -> dict[str, Any]:
        """Return one line of sharpness.jsonl; `threshold` is None for Adam and while the learning rate is 0."""
        operator = operator_of("hessian", self.objective, theta)
        pairs = eigenpairs(operator, Wanted(1), tolerance=TOLERANCE, max_products=_MOST_PRODUCTS, seed=update, warm=self.vector)
        self.vector, rate, threshold = pairs.vectors[:1], self.plan.learning_rate(update), None
        if self.plan.optimizer == "sgd" and rate > 0:
            threshold = largest_stable(rate, self.plan.momentum, self.plan.momentum_rule) - self.plan.weight_decay
        return sharpness_line(update, pairs, rate, threshold)

    def state(self) -> Tensor | None:
        """Return the state that is needed to continue exactly."""
        return self.vector

    def restore(self, vector: Tensor | None) -> None:
        """Restore a state.

        Raises:
            ContentError: The state belongs to another model.
        """
        if vector is not None and (vector.shape, vector.dtype) != (
            (1, self.objective.space.dimension),
            self.objective.runtime.dtype,
        ):
            raise ContentError("'eigenvector' does not have the shape of the weights")
        self.vector = None if vector is None else vector.to(self.objective.runtime.device)


def sharpness_line(update: int, pairs: Eigenpairs, rate: float | None, threshold: float | None) -> dict[str, Any]:
    """Return one line of sharpness.jsonl.

    Args:
        update: Number of updates so far.
        pairs: The eigenpairs, λmax first.
        rate: The learning rate of the next update; None if it is not known.
        threshold: The largest λmax at which the updates are stable; None if it is not known.
    """
    top, (low, high) = float(pairs.values[0]), pairs.interval(0)
    return {
        "step": update,
        "lambda_max": top,
        "low": low,
        "high": high,
        "verdict": pairs.verdicts[0],
        "products": pairs.steps + pairs.confirmations + pairs.verifications,
        "lr": rate,
        "threshold": threshold,
        "ratio": top / threshold if threshold else None,
    }


def theta_of(space: ParameterSpace, model: nn.Module) -> Tensor:
    """Return the parameters of a model as one vector (P,)."""
    with torch.no_grad():
        return space.flatten(dict(model.named_parameters()))
