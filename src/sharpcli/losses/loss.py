"""The base classes of losses: loss terms, their second derivative with respect to the outputs, and their number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.inputs import Inputs, InputSource, are_tokens
from sharpcli.losses.class_axis import class_axis, classes_last, flat
from sharpcli.losses.evaluation import Evaluation, Guess
from sharpcli.losses.one_hot import one_hot, refused
from sharpcli.settings.losses import IGNORED, LossSpec


@dataclass(frozen=True)
class Loss(ABC):
    """A loss as a function of outputs and targets.

    The mean loss is a mean over loss terms. A sample has one loss term; if each token has a class, or if a sample has several
    labels, each token or label is one loss term. An integer target that is ignored has no loss term.

    Attributes:
        spec: Name and options of the loss.
    """

    quantity: ClassVar[str] = "nats"  # What a loss term is measured in; "" if it is not known.
    part: ClassVar[str] = ""  # What has one of several loss terms of a sample; "" for a token, or another target.

    spec: LossSpec

    @abstractmethod
    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each term, in the shape of `counted`; 0 for ignored targets.

        Args:
            outputs: Outputs of a batch, (B, C), (B, T, ..., C) or (B, C, T, ...), or the shape that the loss describes.
            targets: Targets of the batch.

        Raises:
            ValueError: The shapes do not fit.
            InputError: Both class axes fit the shapes, and `spec` chooses none; see `class_axis`.
        """

    def precise_terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the same as `terms`, with a small relative error also for terms close to 0; this takes more memory."""
        return self.terms(outputs, targets)

    @abstractmethod
    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Multiply a direction by the Hessian of the summed loss with respect to the outputs, in place, and return it.

        The product has a closed form. It needs no C x C matrix and no other tensor of the size of the outputs. It cannot be
        differentiated.

        Args:
            outputs: Outputs of a batch, in a shape that `terms` accepts.
            targets: Targets of the batch.
            direction: Shape of the outputs; overwritten.

        Raises:
            ValueError: The shapes do not fit.
        """

    @abstractmethod
    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which terms are predicted correctly, booleans in the shape of `terms`; False if the loss has no accuracy."""

    @abstractmethod
    def guess(self, targets: Tensor) -> Guess:
        """Return loss and accuracy of the best constant prediction; a model that is not better has learned nothing."""

    @abstractmethod
    def require_targets(self, targets: Tensor) -> None:
        """Refuse targets that this loss does not accept.

        Raises:
            SettingsError: The targets need another loss.
        """

    @abstractmethod
    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse outputs and targets that do not fit together, such as a class without an output.

        Args:
            outputs: Outputs of some samples.
            targets: Targets of these samples; only their shape matters.
            every: Targets of all samples.

        Raises:
            InputError: A target has no output, or both class axes fit the shapes and `spec` chooses none.
            ValueError: The shapes do not fit.
        """

    def counted(self, targets: Tensor) -> Tensor:
        """Return which targets are loss terms, booleans: the shape of integer targets, or (B,) for floating-point targets."""
        if targets.is_floating_point():
            return torch.ones(len(targets), dtype=torch.bool, device=targets.device)
        return (targets != IGNORED) & (targets != self.spec.ignore_index)

    def count(self, targets: Tensor) -> int:
        """Return the number of loss terms; ignored targets do not count."""
        return int(self.counted(targets).sum())

    def weights(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return the weight of each loss term in the divisor of a mean, in the shape of `counted`; None if all are 1."""
        return None

    @property
    def has_plain_terms(self) -> bool:
        """Whether the mean loss is the sum of the terms divided by their number, and each term is known."""
        return True

    def total_weight(self, targets: Tensor) -> float:
        """Return the divisor of a mean: the sum of the weights of the loss terms; without weights their number, an integer."""
        return self.total_weights([targets])[0]

    def total_weights(self, groups: Iterable[Tensor]) -> list[float]:
        """Return `total_weight` of several groups of targets; the host waits once for the device."""

        def total(targets: Tensor) -> Tensor:
            weights = self.weights(targets)
            return (self.counted(targets) if weights is None else weights).sum()

        totals: list[float] = torch.stack([total(targets) for targets in groups]).tolist()
        return totals

    def counts_all(self, targets: Tensor) -> bool:
        """Return whether no target is ignored and each loss term has weight 1 in the divisor of a mean."""
        return self.weights(targets[:1]) is None and bool(self.counted(targets).all())

    def terms_each(self, targets: Tensor) -> int:
        """Return the number of loss terms of a sample that has no ignored target."""
        return self.counted(targets[:1]).numel()

    def described_terms(self, inputs: Inputs | InputSource, targets: Tensor) -> dict[str, Any]:
        """Return `loss_unit` and `terms_per_sample` of all samples; see `results.Conditions`."""
        unit, terms = self.quantity, self.count(targets) / len(targets)
        if self.terms_each(targets) > 1 and unit:
            unit += f" per {self.part or ('token' if are_tokens(inputs) else 'target')}"
        return {"loss_unit": unit, "terms_per_sample": terms}

    def has_terms(self, targets: Tensor) -> Tensor:
        """Return which samples have a loss term, booleans, shape (B,)."""
        return self.counted(targets).reshape(len(targets), -1).any(1)

    def classifies(self, targets: Tensor) -> bool:
        """Return whether the loss defines an accuracy for these targets."""
        return not targets.is_floating_point()

    def evaluation(self, means: Tensor, targets: Tensor, total_weight: float) -> Evaluation:
        """Return loss and accuracy with standard errors; for the arguments see `Evaluation.of`."""
        return Evaluation.of(means, len(targets), total_weight, classified=self.classifies(targets))

    def num_outputs(self, targets: Tensor, num_classes: int) -> int:  # noqa: ARG002
        """Return the number of outputs that a model needs; `num_classes` is the number of classes of the data."""
        return num_classes

    def settled(self, outputs: Tensor, targets: Tensor) -> Loss:  # noqa: ARG002
        """Return this loss with its class axis fixed, so that it does not depend on the shapes of further batches.

        Args:
            outputs: Outputs of some samples.
            targets: Targets of these samples.

        Raises:
            ValueError: The shapes do not fit.
            InputError: Both class axes fit the shapes.
        """
        return self

    def sample_sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return, for each sample, sums over its loss terms: loss, right predictions, weights, and number of terms.

        Returns:
            Shape (4, B); without weights (3, B), because the sum of the weights is then the number of terms.
        """
        parts = [self.terms(outputs, targets), self.right(outputs, targets), self.counted(targets)]
        weights = self.weights(targets)
        if weights is not None:
            parts.insert(2, weights)
        return torch.stack([part.to(parts[0].dtype).reshape(len(targets), -1).sum(1) for part in parts])


@dataclass(frozen=True)
class ClassLoss(Loss):
    """A loss for classes, shape (B,) or (B, T, ...), with the class axis of the outputs last or 1; see `class_axis`."""

    def classes(self, targets: Tensor) -> Tensor:
        """Return integer targets, with every ignored target replaced by -100."""
        return targets if self.spec.ignore_index == IGNORED else targets.masked_fill(targets == self.spec.ignore_index, IGNORED)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return for which targets the largest output is that of the class; False for ignored and floating-point targets."""
        if targets.is_floating_point():
            return torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
        return classes_last(outputs, targets, self.spec).argmax(-1) == self.classes(targets)

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse classes that the outputs do not have, and integer targets that are not classes, such as one-hot vectors.

        Raises:
            InputError: There are such targets, or both class axes fit the shapes and `spec` chooses none.
            ValueError: The shapes do not fit.
        """
        if targets.is_floating_point():
            return
        fits = outputs.shape == targets.shape or outputs.ndim == 2
        if fits and one_hot(every):
            raise refused(every)
        if targets.ndim > 1 == len(bare_shape(targets)) and outputs.ndim == 2 and outputs.shape[1] > 1:
            raise InputError(
                f"y has shape ({', '.join(['N', *map(str, targets.shape[1:])])}), but the model predicts one class per sample.",
                "Store classes as (N,).",
            )
        if bare_shape(outputs) == bare_shape(targets) and binary(every[self.counted(every)]):
            raise InputError(
                f"The model has one output for each target, and all targets are 0 or 1, but the loss is {self.spec.name}.",
                "Use --loss bce, the binary cross-entropy.",
            )
        count = classes_last(flat(outputs, targets), targets, self.spec).shape[-1]
        counted = every[self.counted(every)]
        lowest, highest = int(counted.min()), int(counted.max())
        if highest >= count:
            raise InputError(
                f"The data contain the class {highest}, but the model has {count} outputs.",
                "Classes are counted from 0. Use the data and the --model that belong together. To ignore a target, set it to "
                f"{IGNORED}.",
            )
        if lowest < 0:
            raise InputError(
                f"The data contain the class {lowest}.",
                f"Classes are counted from 0. To ignore this one, use --loss {self.spec.name}:ignore_index={lowest}.",
            )

    def shares(self, targets: Tensor) -> Tensor:
        """Return the fraction of the loss terms that each class has, shape (C,), float64, where C is the largest class + 1."""
        counts = torch.bincount(targets[self.counted(targets)].flatten()).double()
        return counts / counts.sum()

    def settled(self, outputs: Tensor, targets: Tensor) -> Loss:
        """Return this loss with its class axis fixed, if classes and outputs have axes for tokens; see `Loss.settled`."""
        if targets.is_floating_point() or outputs.ndim <= 2 or targets.ndim == 1:
            return self
        return replace(self, spec=replace(self.spec, class_axis=class_axis(outputs, targets, self.spec)))


def bare_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a batch without axes of length 1 after the first axis: (B, H, W) for shape (B, 1, H, W)."""
    return (*tensor.shape[:1], *(size for size in tensor.shape[1:] if size != 1))


def binary(targets: Tensor) -> bool:
    """Return whether all entries are 0 or 1."""
    return bool(((targets == 0) | (targets == 1)).all())
