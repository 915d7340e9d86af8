"""The binary cross-entropy of logits, with one logit per label; the labels of a sample do not exclude each other."""

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
    """The loss v (-w y log σ(z) - (1 - y) log(1 - σ(z))) for each logit z and its target y, in nats.

    v is the `weight` of the label, and w is its `pos_weight`.

    Targets are the integers 0 and 1, of which some may be ignored, or floating-point numbers from 0 to 1. Each label of each
    sample is one loss term. The mean is the sum of the terms divided by their number, also with weights, as in
    torch.nn.BCEWithLogitsLoss.

    Outputs and targets have the same shape, apart from axes of length 1: outputs (B, 1) fit targets (B,), and (B, 1, H, W) fit
    (B, H, W).
    """

    part = "label"

    def counted(self, targets: Tensor) -> Tensor:
        """Return which labels are loss terms, booleans in the shape of the targets."""
        if targets.is_floating_point():
            return torch.ones_like(targets, dtype=torch.bool)
        return super().counted(targets)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each label, in the shape of the targets; 0 for ignored labels.

        log(1 - σ(z)) is computed as log σ(-z), because 1 - σ(z) is rounded to 0 for large z.
        """
        counted = self.counted(targets)
        logits = torch.where(counted, _aligned(outputs, targets), 0)
        wanted = torch.where(counted, targets, 0).to(logits.dtype)
        up, down = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        positive, label = self._weights(logits)
        return torch.where(counted, -label * (positive * wanted * up + (1 - wanted) * down), 0)

    def _weights(self, labels: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """Return `pos_weight` and `weight`: each is one number for all labels, or a tensor (K,) in the type of `labels`."""
        return tuple(
            weights[0] if len(weights) == 1 else torch.tensor(weights, dtype=labels.dtype, device=labels.device)
            for weights in (self.spec.pos_weight, self.spec.weight or (1.0,))
        )  # type: ignore[return-value]

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Replace a direction d by v (1 - y + w y) p (1 - p) d, with p = σ(z), block by block; see `Loss.output_hessian_`."""
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
        """Return which labels are predicted correctly: z > 0 and y > 1/2, or z <= 0 and y <= 1/2; False if ignored."""
        return ((_aligned(outputs, targets) > 0) == (targets > 0.5)) & self.counted(targets)

    def classifies(self, targets: Tensor) -> bool:  # noqa: ARG002
        """Return True: there is an accuracy, also for labels that are floating-point numbers."""
        return True

    def num_outputs(self, targets: Tensor, num_classes: int) -> int:  # noqa: ARG002
        """Return the number of labels of a sample, since each label needs one logit."""
        return targets[:1].numel()

    def guess(self, targets: Tensor) -> Guess:
        """Return loss and accuracy of the best constant prediction, as means over all loss terms.

        For each label, the best constant probability is w s / (w s + 1 - s), where s is the mean target, and the best constant
        class is the more frequent one.
        """
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
        """Refuse targets that are neither 0, 1 nor a probability.

        Raises:
            SettingsError: There is such a target.
        """
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
        """Refuse outputs that are not one logit per label, and weights that are not one number per label.

        Raises:
            InputError: The numbers differ.
        """
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
    """Return the number of entries of a sample in words, for a message."""
    shape = tuple(batch.shape[1:])
    return f"{shape} numbers" if len(shape) > 1 else f"{batch[0].numel()} number{'s' * (batch[0].numel() != 1)}"


def _aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a view of the outputs in the shape of the targets; only axes of length 1 are added or removed."""
    if bare_shape(outputs) != bare_shape(targets):
        raise ValueError(f"outputs {tuple(outputs.shape)} do not fit labels {tuple(targets.shape)}")
    return outputs.reshape(targets.shape)
