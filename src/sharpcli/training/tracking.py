"""Quantities that are tracked during training: the distance from the initial weights, and the sharpness of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sharpcli.batchnorm import batch_norms
from sharpcli.checkpoints import OptimizerState
from sharpcli.curvature.operators import operator_of
from sharpcli.curvature.preconditioner import Preconditioner, preconditioner_of
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
from sharpcli.settings.train import ADAPTIVE
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

    For an adaptive optimizer the threshold is about the preconditioned Hessian, whose λmax is tracked too.

    The loss is that of training: the training data without augmentation, label smoothing, and BatchNorm that normalises
    the blocks of a full batch (Cohen et al. 2021). Each search starts at the previous eigenvector, which only saves products.

    Attributes:
        objective: The training loss.
        plan: Gives learning rate, momentum and weight decay.
    """

    objective: Objective
    plan: TrainingPlan
    vector: Tensor | None = field(default=None)
    preconditioned: Tensor | None = field(default=None)
    NOTHING: ClassVar[dict[str, Tensor | None]] = {"eigenvector": None, "preconditioned_eigenvector": None}

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
        followed = loss_of_training(model, inputs, targets, loss=loss, plan=plan, runtime=runtime, batches=batches)
        return SharpnessTracker(followed, plan)

    def measure(self, update: int, theta: Tensor, optimizer: OptimizerState | None = None) -> dict[str, Any]:
        """Return one line of sharpness.jsonl.

        `threshold` is None while the learning rate is 0, and for an adaptive optimizer before its first update.

        Args:
            update: Number of updates so far.
            theta: The weights, shape (P,).
            optimizer: The state of the optimizer; only the second moments of an adaptive one are used.
        """
        pairs = self._largest("hessian", update, theta, self.vector)
        self.vector, rate, threshold = pairs.vectors[:1], self.plan.learning_rate(update), None
        if self.plan.optimizer == "sgd" and rate > 0:
            threshold = largest_stable(rate, self.plan.momentum, self.plan.momentum_rule) - self.plan.weight_decay
        if self.plan.optimizer not in ADAPTIVE or optimizer is None or not optimizer.tensors:
            return sharpness_line(update, pairs, rate, threshold)
        space = self.objective.space
        adaptive = preconditioner_of(optimizer, space, "the run", space.names)
        tops = self._largest("preconditioned", update, theta, self.preconditioned, adaptive.scale(space))
        self.preconditioned = tops.vectors[:1]
        return adaptive_line(sharpness_line(update, pairs, rate, None), tops, adaptive, space)

    def _largest(self, name: str, update: int, theta: Tensor, warm: Tensor | None, scale: Tensor | None = None) -> Eigenpairs:
        operator = operator_of(name, self.objective, theta, scale=scale)
        return eigenpairs(operator, Wanted(1), tolerance=TOLERANCE, max_products=_MOST_PRODUCTS, seed=update, warm=warm)

    def state(self) -> dict[str, Tensor | None]:
        """Return the state that is needed to continue exactly, by its names in the state of a run."""
        return dict(zip(self.NOTHING, (self.vector, self.preconditioned), strict=True))

    def restore(self, vector: Tensor | None, preconditioned: Tensor | None = None) -> None:
        """Restore a state.

        Raises:
            ContentError: The state belongs to another model.
        """
        like = ((1, self.objective.space.dimension), self.objective.runtime.dtype)
        for name, part in zip(self.NOTHING, (vector, preconditioned), strict=True):
            if part is not None and (part.shape, part.dtype) != like:
                raise ContentError(f"'{name}' does not have the shape of the weights")
        device = self.objective.runtime.device
        self.vector = None if vector is None else vector.to(device)
        self.preconditioned = None if preconditioned is None else preconditioned.to(device)


def sharpness_line(update: int, pairs: Eigenpairs, rate: float | None, threshold: float | None) -> dict[str, Any]:
    """Return one line of sharpness.jsonl.

    Args:
        update: Number of updates so far.
        pairs: The eigenpairs, λmax first.
        rate: The learning rate of the next update; None if it is not known.
        threshold: The largest λmax at which the updates are stable; None if it is not known.
    """
    found = _found(pairs)
    return {
        "step": update,
        **found,
        "lr": rate,
        "threshold": threshold,
        "ratio": found["lambda_max"] / threshold if threshold else None,
    }


def adaptive_line(line: dict[str, Any], pairs: Eigenpairs, adaptive: Preconditioner, space: ParameterSpace) -> dict[str, Any]:
    """Return a line of sharpness.jsonl with λmax of the preconditioned Hessian, and with the threshold, which is about it.

    Args:
        line: The line of the Hessian; its learning rate decides the threshold.
        pairs: The eigenpairs of the preconditioned Hessian, λmax first.
        adaptive: P and its optimizer.
        space: The layout of the weights.
    """
    found, threshold = _found(pairs), None
    if line["lr"]:
        threshold = adaptive.edge.at(line["lr"]) - adaptive.decay_along(pairs.vectors[0], space)
    ratio = found["lambda_max"] / threshold if threshold else None
    return {**line, "preconditioned": found, "threshold": threshold, "ratio": ratio}


def _found(pairs: Eigenpairs) -> dict[str, Any]:
    """Return λmax with its interval, its verdict and its number of products."""
    low, high = pairs.interval(0)
    return {
        "lambda_max": float(pairs.values[0]),
        "low": low,
        "high": high,
        "verdict": pairs.verdicts[0],
        "products": pairs.steps + pairs.confirmations + pairs.verifications,
    }


def loss_of_training(
    model: nn.Module,
    inputs: Inputs | InputSource,
    targets: Tensor,
    *,
    loss: str,
    plan: TrainingPlan,
    runtime: Runtime,
    batches: Batches,
) -> Objective:
    """Return the loss that training descends, with a private copy of the model; see `SharpnessTracker`."""
    in_blocks = bool(batch_norms(model))
    order = batches.indices(0) if batches.is_full and batches.copies == 1 else batches.mixed()
    if in_blocks and order is not None:
        inputs, targets = chosen(inputs, order.to(targets.device)), targets[order.to(targets.device)]
    return Objective.of(
        model,
        inputs,
        targets,
        loss=smoothed(loss, plan.label_smoothing),
        runtime=runtime,
        bn="batch" if in_blocks else "eval",
        bn_block=plan.chunk_size,
    )


def theta_of(space: ParameterSpace, model: nn.Module) -> Tensor:
    """Return the parameters of a model as one vector (P,)."""
    with torch.no_grad():
        return space.flatten(dict(model.named_parameters()))
