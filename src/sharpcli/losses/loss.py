"""What every loss can do: cost term by term, their second derivative in the outputs, how many terms there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.losses.class_axis import class_axis, classes_last, flat
from sharpcli.losses.evaluation import Guess
from sharpcli.losses.one_hot import one_hot, refused
from sharpcli.settings.losses import IGNORED, LossSpec


@dataclass(frozen=True)
class Loss(ABC):
    """A loss as a function of outputs and targets.

    A loss term is what a mean is over: a sample, a token where every token has a class of its own, or a label where a
    sample has several. Integer targets that are ignored are no terms: they cost nothing and are not counted.

    Attributes:
        spec: Its name and options.
    """

    spec: LossSpec

    @abstractmethod
    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return one number per loss term, of the shape of `counted`; 0 where ignored.

        Raises:
            ValueError: The shapes do not fit.
            InputError: They fit in two ways, and `spec` does not say which it is.
        """

    def precise_terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what `terms` returns, computed so that a term close to 0 keeps its digits; it takes more memory."""
        return self.terms(outputs, targets)

    @abstractmethod
    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Multiply a direction by the Hessian of the summed loss in the outputs, in place, and return it.

        In closed form, with no matrix of C x C in memory and no further tensor of the size of the outputs; not to be
        differentiated.

        Args:
            outputs: Of any of the shapes of the class.
            targets: Of them.
            direction: Of the shape of the outputs; overwritten.

        Raises:
            ValueError: The shapes do not fit.
        """

    @abstractmethod
    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which terms are predicted right, booleans of the shape of `terms`; none of them for numbers."""

    @abstractmethod
    def guess(self, targets: Tensor) -> Guess:
        """Return what the best single answer for all samples reaches: a model at or above it has learned nothing."""

    @abstractmethod
    def require_targets(self, targets: Tensor) -> None:
        """Refuse targets that this loss is not for.

        Raises:
            SettingsError: They are for another one.
        """

    @abstractmethod
    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse targets that the outputs have no place for.

        Args:
            outputs: For some samples.
            targets: Of them, for their shape.
            every: The targets of all samples.

        Raises:
            InputError: There is one, or it is not clear which output is for which class.
        """

    def counted(self, targets: Tensor) -> Tensor:
        """Return which targets are loss terms, booleans of the shape of integer targets, or (B,) for numbers."""
        if targets.is_floating_point():
            return torch.ones(len(targets), dtype=torch.bool, device=targets.device)
        return (targets != IGNORED) & (targets != self.spec.ignore_index)

    def count(self, targets: Tensor) -> int:
        """Return the number of loss terms."""
        return int(self.counted(targets).sum())

    def weights(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return the weight of each loss term in the divisor of a mean, of the shape of `counted`; None if each is 1."""
        return None

    @property
    def has_plain_terms(self) -> bool:
        """Whether the loss is a plain mean over terms, and each term is known."""
        return True

    def total_weight(self, targets: Tensor) -> float:
        """Return the divisor of a mean: the sum of the weights of the loss terms, without weights their number, an integer."""
        weights = self.weights(targets)
        return self.count(targets) if weights is None else float(weights.sum())

    def counts_all(self, targets: Tensor) -> bool:
        """Return whether every target is a loss term of weight 1."""
        return self.weights(targets[:1]) is None and bool(self.counted(targets).all())

    def terms_each(self, targets: Tensor) -> int:
        """Return the number of loss terms of a sample of which nothing is ignored."""
        return self.counted(targets[:1]).numel()

    def has_terms(self, targets: Tensor) -> Tensor:
        """Return which samples have a loss term, booleans (B,)."""
        return self.counted(targets).reshape(len(targets), -1).any(1)

    def classifies(self, targets: Tensor) -> bool:
        """Return whether an answer can be right or wrong, so that there is an accuracy."""
        return not targets.is_floating_point()

    def num_outputs(self, targets: Tensor, num_classes: int) -> int:  # noqa: ARG002
        """Return how many outputs a model needs for such targets, of which the data say that there are so many classes."""
        return num_classes

    def settled(self, outputs: Tensor, targets: Tensor) -> Loss:  # noqa: ARG002
        """Return this loss with all said that it would otherwise tell from the shapes of outputs.

        Raises:
            ValueError: The shapes do not fit.
            InputError: They fit in two ways.
        """
        return self

    def sample_sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return, for each sample, sums over its loss terms: loss, right predictions, weights, and number of terms.

        Returns:
            Shape (4, B); without weights (3, B), because the weights are the numbers of terms then.
        """
        parts = [self.terms(outputs, targets), self.right(outputs, targets), self.counted(targets)]
        weights = self.weights(targets)
        if weights is not None:
            parts.insert(2, weights)
        return torch.stack([part.to(parts[0].dtype).reshape(len(targets), -1).sum(1) for part in parts])


@dataclass(frozen=True)
class ClassLoss(Loss):
    """A loss of classes (B,) or (B, T, ...), counted along the last axis of the outputs or along axis 1."""

    def classes(self, targets: Tensor) -> Tensor:
        """Return integer targets in which all that is ignored is -100."""
        return targets if self.spec.ignore_index == IGNORED else targets.masked_fill(targets == self.spec.ignore_index, IGNORED)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return where the largest output is that of the class."""
        if targets.is_floating_point():
            return torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
        return classes_last(outputs, targets, self.spec).argmax(-1) == self.classes(targets)

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse classes that the outputs do not have, and labels that are no classes."""
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
        """Return the share of each class among the loss terms, shape (C,), float64, with C the largest class + 1."""
        counts = torch.bincount(targets[self.counted(targets)].flatten()).double()
        return counts / counts.sum()

    def settled(self, outputs: Tensor, targets: Tensor) -> Loss:
        """Return this loss with the axis of the classes said, where there are more than two."""
        if targets.is_floating_point() or outputs.ndim <= 2 or targets.ndim == 1:
            return self
        return replace(self, spec=replace(self.spec, class_axis=class_axis(outputs, targets, self.spec)))


def bare_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a batch without the axes of one behind the first: (B, 1) and (B,), (B, 1, H, W) and (B, H, W)."""
    return (*tensor.shape[:1], *(size for size in tensor.shape[1:] if size != 1))


def binary(targets: Tensor) -> bool:
    """Return whether all of these are 0 or 1."""
    return bool(((targets == 0) | (targets == 1)).all())
