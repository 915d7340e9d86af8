"""Half the squared error between outputs and targets: floating-point numbers, or classes as one-hot vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sharpcli.errors import InputError
from sharpcli.losses.class_axis import class_axis, classes_last, flat
from sharpcli.losses.evaluation import Guess
from sharpcli.losses.loss import ClassLoss
from sharpcli.settings.losses import IGNORED


@dataclass(frozen=True)
class HalfSquaredError(ClassLoss):
    """The loss ½ |outputs - target|², summed over the outputs of a loss term."""

    quantity = "half squared error"

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss terms: shape (B,) for floating-point targets, the shape of the targets for classes."""
        if targets.is_floating_point():
            outputs = outputs.reshape(len(outputs), -1)
            return 0.5 * (outputs - targets.to(outputs.dtype).view_as(outputs)).square().sum(1)
        classes = self.classes(targets)
        outputs = classes_last(flat(outputs, classes), classes, self.spec)
        wanted = functional.one_hot(classes.clamp_min(0), outputs.shape[-1]).to(outputs.dtype)
        # Not a product with the mask, because 0 · inf is NaN: an infinite output of an ignored target must have no effect.
        return torch.where(classes != IGNORED, 0.5 * (outputs - wanted).square().sum(-1), 0)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Set a direction to 0 for ignored targets and leave the rest unchanged, because the Hessian is the identity."""
        if not targets.is_floating_point():
            axis = class_axis(flat(outputs, targets), targets, self.spec)
            flat(direction, targets).masked_fill_((~self.counted(targets)).unsqueeze(axis), 0)
        return direction

    def guess(self, targets: Tensor) -> Guess:
        """Return half the variance of the targets, summed over its entries, and the share of the most frequent class."""
        if targets.is_floating_point():
            return Guess(0.5 * float(targets.double().reshape(len(targets), -1).var(0, correction=0).sum()), None)
        shares = self.shares(targets)
        return Guess(0.5 * float(1 - shares.square().sum()), float(shares.max()))

    def require_targets(self, targets: Tensor) -> None:
        """Accept any targets, floating-point numbers and classes."""

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse a number of outputs other than the number of targets of a sample; for classes, see `ClassLoss`.

        Raises:
            InputError: The numbers differ, or the outputs do not fit the classes.
            ValueError: The shapes of outputs and classes do not fit.
        """
        super().require_classes(outputs, targets, every)
        width, wanted = outputs[:1].numel(), targets[:1].numel()
        if targets.is_floating_point() and len(outputs) == len(targets) and width != wanted:
            raise InputError(
                f"The model has {width} output{'s' * (width != 1)}, but a sample has {wanted} target{'s' * (wanted != 1)}.",
                "mse needs one output for each target. Use the data and the --model that belong together.",
            )
