"""Evaluation of a model during training: losses on both splits, the evaluation times, and the test for the target loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli.checkpoints import LAST_GOOD, Losses
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.errors import NumericalError
from sharpcli.objective import Evaluation, Objective
from sharpcli.runtime import Runtime
from sharpcli.training.plan import TrainingPlan
from sharpcli.training.tracking import theta_of

# Pairs (factor, times): evaluate more often while the loss is within a factor of the target loss. In one epoch of small
# batches the loss can fall far below the target, and runs must be compared at the same loss.
_NEAR = ((1.1, 25), (1.5, 5))

BothSplits = tuple[Evaluation, Evaluation | None]  # Of training and test data; None without a test split.


def losses_of(evaluations: BothSplits) -> Losses:
    """Return losses and accuracies of both splits, those of a missing test split as None."""
    train, test = evaluations
    return {
        "train_loss": train.loss,
        "train_accuracy": train.accuracy,
        "test_loss": None if test is None else test.loss,
        "test_accuracy": None if test is None else test.accuracy,
    }


@dataclass(eq=False)
class Evaluator:
    """Evaluates a model in eval mode on both splits, with the plain loss and without augmentation.

    Attributes:
        model: The model in training; its weights and buffers are read, never changed.
        plan: Gives the target loss and the evaluation interval.
        train: The mean loss over the training data.
        test: The mean loss over the test data; None without a test split.
        folder: Folder of the run, for messages.
        good: Number of updates and weights of the last evaluation.
    """

    model: nn.Module
    plan: TrainingPlan
    train: Objective
    test: Objective | None
    folder: Path
    good: tuple[int, dict[str, Tensor]] | None = None

    @staticmethod
    def of(model: nn.Module, data: DataSplits, *, loss: str, plan: TrainingPlan, runtime: Runtime, folder: Path) -> Evaluator:
        """Bind a model to data."""

        def objective(part: Split) -> Objective:
            return Objective.of(model, part.inputs, part.targets, loss=loss, runtime=runtime)

        test = None if data.test is None else objective(data.test)
        return Evaluator(model, plan, objective(data.train), test, folder)

    def evaluate(self, updates: int) -> BothSplits:
        """Return loss and accuracy on training and test data at the current weights, and store these weights as good.

        Raises:
            NumericalError: A loss is not finite.
        """
        evaluations = self.evaluate_at(theta_of(self.train.space, self.model), dict(self.model.named_buffers()), updates)
        self.good = updates, {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return evaluations

    def evaluate_at(self, theta: Tensor, buffers: Mapping[str, Tensor], updates: int) -> BothSplits:
        """Return loss and accuracy on training and test data at other weights (P,) and buffers.

        Raises:
            NumericalError: A loss is not finite.
        """
        train = self.train.evaluate(theta, buffers)
        test = None if self.test is None else self.test.evaluate(theta, buffers)
        if not all(math.isfinite(evaluation.loss) for evaluation in (train, test) if evaluation is not None):
            raise self.diverged(updates)
        return train, test

    def require_finite(self, updates: int) -> Tensor:
        """Return the weights (P,) if all are finite, so that non-finite weights are detected before the next evaluation.

        Raises:
            NumericalError: A weight is not finite.
        """
        theta = theta_of(self.train.space, self.model)
        if not bool(torch.isfinite(theta).all()):
            raise self.diverged(updates)
        return theta

    def is_due(self, updates: int, metrics: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether to evaluate now, given the metrics of the earlier evaluations."""
        every, wanted = self.plan.eval_every, self.plan.stop_train_loss
        if wanted is not None and metrics:
            closer = next((times for factor, times in _NEAR if metrics[-1]["train_loss"] <= factor * wanted), 1)
            every = max(1, every // closer)
        return updates % every == 0 or updates == self.plan.updates

    def is_reached(self, loss: float) -> bool:
        """Return whether a training loss has reached the target loss."""
        return self.plan.stop_train_loss is not None and loss <= self.plan.stop_train_loss

    def diverged(self, updates: int) -> NumericalError:
        """Return the error to raise when a number is no longer finite."""
        kept = "" if self.good is None else f"; the weights after update {self.good[0]} are in {self.folder / LAST_GOOD}"
        return NumericalError(
            f"Training '{self.plan.mode}' diverged at update {updates}: the loss is no longer finite{kept}.",
            "Use a lower --lr, a longer --warmup, or --clip 1.",
        )
