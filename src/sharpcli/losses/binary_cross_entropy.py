"""The binary cross-entropy of logits: one logit, or one for each of several labels that do not exclude each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sharpcli.errors import InputError, SettingsError
from sharpcli.losses.class_axis import BLOCK
from sharpcli.losses.evaluation import Guess
from sharpcli.losses.loss import Loss, bare_shape, binary


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """v (-w y log σ(z) - (1 - y) log(1 - σ(z))) of every logit z and its target y.

    v is the `weight` of the label and w its `pos_weight`.

    Targets are 0 and 1 as integers, of which some may be ignored, or numbers between 0 and 1. Each of them is a loss
    term, so that the mean is over samples and labels alike, as that of torch.nn.BCEWithLogitsLoss. So a mean is divided by
    the number of labels, also with weights.
    Outputs have the shape of the targets, but for axes of one: (B, 1) goes with (B,), (B, 1, H, W) with (B, H, W).
    """

    def counted(self, targets: Tensor) -> Tensor:
        """Return which labels are loss terms, booleans of the shape of the targets."""
        if targets.is_floating_point():
            return torch.ones_like(targets, dtype=torch.bool)
        return super().counted(targets)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cost of each label; twice log σ, because 1 - σ(z) would be rounded to 0."""
        counted = self.counted(targets)
        logits = torch.where(counted, _aligned(outputs, targets), 0)
        wanted = torch.where(counted, targets, 0).to(logits.dtype)
        up, down = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        positive, label = self._weights(logits)
        return torch.where(counted, -label * (positive * wanted * up + (1 - wanted) * down), 0)

    def _weights(self, labels: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """Return `pos_weight` and `weight`, each a number for all labels or of shape (K,), in the type of the labels."""
        return tuple(
            weights[0] if len(weights) == 1 else torch.tensor(weights, dtype=labels.dtype, device=labels.device)
            for weights in (self.spec.pos_weight, self.spec.weight or (1.0,))
        )  # type: ignore[return-value]

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Make a direction p (1 - p) (1 - y + w y) d, with p = σ(z), some samples at a time."""
        logits, along = _aligned(outputs.detach(), targets), _aligned(direction, targets)
        rows = max(1, BLOCK // max(along[0].numel(), 1))
        for start in range(0, len(targets), rows):
            some, labels = logits[start : start + rows], targets[start : start + rows]
            part = along[start : start + rows]
            part.mul_(torch.sigmoid(some)).mul_(torch.sigmoid(-some))
            if self.spec.is_weighted:
                positive, label = self._weights(part)
                part.mul_(label * (1 + (positive - 1) * labels.to(part.dtype)))
            part.masked_fill_(~self.counted(labels), 0)
        return direction

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return where a logit is on the side of 0 that its label is on of a half."""
        return ((_aligned(outputs, targets) > 0) == (targets > 0.5)) & self.counted(targets)

    def classifies(self, targets: Tensor) -> bool:  # noqa: ARG002
        """Tell that there is an accuracy, also where labels are stored as numbers."""
        return True

    def num_outputs(self, targets: Tensor, num_classes: int) -> int:  # noqa: ARG002
        """Return the number of labels of a sample, one logit each."""
        return targets[:1].numel()

    def guess(self, targets: Tensor) -> Guess:
        """Return the mean over labels of what one chance for each of them costs, and of its more frequent value."""
        counted = self.counted(targets).reshape(len(targets), -1)
        ones = torch.where(counted, targets.reshape(len(targets), -1), 0).double()
        labels, positive = counted.sum(0).double(), ones.sum(0)
        weight = labels / labels.sum()
        share = positive / labels.clamp_min(1)
        positive_weight, label_weight = self._weights(share)
        weighed = positive_weight * share
        best = weighed / (weighed + 1 - share)
        costs = label_weight * (-torch.xlogy(weighed, best) - torch.xlogy(1 - share, 1 - best))
        likelier = torch.where(counted, ones > 0.5, False).sum(0) / labels.clamp_min(1)
        return Guess(float(weight @ costs), float(weight @ torch.maximum(likelier, 1 - likelier)))

    def require_targets(self, targets: Tensor) -> None:
        """Refuse what is no label and no chance."""
        counted = targets[self.counted(targets)]
        if targets.is_floating_point():
            if not bool(((counted >= 0) & (counted <= 1)).all()):
                worst = float(counted[(counted < 0) | (counted > 1)][0])
                raise SettingsError(
                    f"The targets contain {worst:g}, but bce needs 0, 1 or probabilities between them.", "Use --loss mse."
                )
        elif not binary(counted):
            worst = int(counted[(counted != 0) & (counted != 1)][0])
            raise SettingsError(
                f"The targets contain {worst}, but bce needs 0 and 1.",
                f"For classes, use --loss ce. If {worst} marks unknown labels, use --loss bce:ignore_index={worst}.",
            )

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:  # noqa: ARG002
        """Refuse outputs that are not one for each label."""
        if bare_shape(outputs) != bare_shape(targets):
            raise InputError(
                f"The model returns {_numbers(outputs)} for each sample, but a sample has {_numbers(targets)} as labels.",
                "bce needs one logit for each label. If the classes exclude each other, use --loss ce.",
            )
        labels = bare_shape(targets)[1:]
        for option, weights in (("weight", self.spec.weight), ("pos_weight", self.spec.pos_weight)):
            if len(weights) > 1 and (targets.ndim > 2 or labels != (len(weights),)):
                raise InputError(
                    f"The loss has {len(weights)} numbers in {option}, but a sample has {_numbers(targets)} as labels.",
                    f"Give one number for each label, as in bce:{option}=2/5 for two labels, or one for all.",
                )


def _numbers(batch: Tensor) -> str:
    """Return how many numbers each sample has."""
    shape = tuple(batch.shape[1:])
    return f"{shape} numbers" if len(shape) > 1 else f"{batch[0].numel()} number{'s' * (batch[0].numel() != 1)}"


def _aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a view of outputs in the shape of the targets: only axes of one come or go."""
    if bare_shape(outputs) != bare_shape(targets):
        raise ValueError(f"outputs {tuple(outputs.shape)} do not fit labels {tuple(targets.shape)}")
    return outputs.reshape(targets.shape)
