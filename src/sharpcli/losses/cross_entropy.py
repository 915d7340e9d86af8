"""The cross-entropy of logits against classes, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sharpcli.errors import InputError, SettingsError
from sharpcli.losses.class_axis import blocks, classes_last, flat
from sharpcli.losses.evaluation import Guess
from sharpcli.losses.loss import ClassLoss, binary
from sharpcli.settings.losses import IGNORED

_ONE_EACH = "Give one weight for each class, in the order of the outputs, as in ce:weight=1/4 for two classes."


@dataclass(frozen=True)
class CrossEntropy(ClassLoss):
    """-w log softmax(logits)[class], with w the weight of the class, and targets smoothed (Szegedy et al. 2016, section 7).

    As in torch.nn.CrossEntropyLoss, weights multiply the terms, also those that smoothing adds, and a mean is divided by the
    sum of the weights of the targets. Without weights, smoothing does not change the second derivative in the logits.
    """

    def weights(self, targets: Tensor) -> Tensor | None:
        """Return the weight of each target's class, float64; 0 for ignored targets."""
        if not self.spec.weight:
            return None
        classes = self.classes(targets)
        return torch.where(classes != IGNORED, self._weight_of_classes(classes, torch.float64)[classes.clamp_min(0)], 0)

    @property
    def has_plain_terms(self) -> bool:
        """Whether classes have no weights."""
        return not self.spec.weight

    def _weight_of_classes(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.tensor(self.spec.weight, dtype=dtype, device=like.device)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return -log softmax(logits)[class], or the smoothed mean of such terms over the classes."""
        logits = classes_last(outputs, targets, self.spec)
        return self._of_logits(logits, self.classes(targets))

    def _of_logits(self, logits: Tensor, classes: Tensor) -> Tensor:
        terms = functional.cross_entropy(
            logits.flatten(0, -2),
            classes.flatten(),
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=self.spec.smoothing,
            weight=self._weight_of_classes(logits, logits.dtype) if self.spec.weight else None,
        )
        return terms.view_as(classes)

    def precise_terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return log(1 + Σ exp(logit - logit of the class)) over the other classes: right to rounding however small it is."""
        if self.spec.smoothing:
            return self.terms(outputs, targets)  # Never close to 0.
        classes = self.classes(targets)
        logits, chosen = classes_last(outputs, targets, self.spec), classes.clamp_min(0).unsqueeze(-1)
        others = (logits - logits.gather(-1, chosen)).scatter(-1, chosen, -math.inf).logsumexp(-1)
        terms = torch.logaddexp(torch.zeros_like(others), others)
        weights = self.weights(targets)
        return torch.where(classes != IGNORED, terms if weights is None else terms * weights.to(terms.dtype), 0)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Make a direction d a (diag(p) - ppᵀ) d of every term (Böhning 1992), some terms at a time.

        a is the sum of the smoothed and weighted target over the classes: 1 without weights.
        """
        for some, along, classes in blocks(outputs.detach(), direction, self.classes(targets), self.spec):
            chances = torch.softmax(some, -1)
            along.mul_(chances)
            along.addcmul_(chances, along.sum(-1, keepdim=True), value=-1)
            along.masked_fill_((classes == IGNORED).unsqueeze(-1), 0)
            weights = self.weights(classes)
            if weights is not None:
                spread = self.spec.smoothing * sum(self.spec.weight) / len(self.spec.weight)
                along.mul_(((1 - self.spec.smoothing) * weights + spread).to(along.dtype).unsqueeze(-1))
        return direction

    def guess(self, targets: Tensor) -> Guess:
        """Return the entropy of the (weighted) classes, and the share of the most frequent one."""
        shares = self.shares(targets)
        if not self.spec.weight:
            wanted = (1 - self.spec.smoothing) * shares + self.spec.smoothing / len(shares)
            return Guess(float(torch.special.entr(wanted).sum()), float(shares.max()))
        weight = self._weight_of_classes(shares, shares.dtype)
        shares = functional.pad(shares, (0, len(weight) - len(shares)))
        wanted = weight * ((1 - self.spec.smoothing) * shares + self.spec.smoothing / len(weight))
        entropy = torch.special.entr(wanted / wanted.sum()).sum()
        return Guess(float(entropy * wanted.sum() / (weight * shares).sum()), float(shares.max()))

    def num_outputs(self, targets: Tensor, num_classes: int) -> int:  # noqa: ARG002
        """Return the number of classes: that of the weights, if there are any."""
        return len(self.spec.weight) or num_classes

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse classes that the outputs do not have, and weights of another number of classes."""
        super().require_classes(outputs, targets, every)
        count = classes_last(flat(outputs, targets), targets, self.spec).shape[-1]
        if self.spec.weight and len(self.spec.weight) != count:
            raise InputError(
                f"The model has {count} outputs, but the loss has {len(self.spec.weight)} class weights.",
                _ONE_EACH,
            )

    def require_targets(self, targets: Tensor) -> None:
        """Refuse numbers, and classes without a weight if the loss has weights."""
        if not targets.is_floating_point():
            highest = int(self.classes(targets).max()) if self.spec.weight and targets.numel() else 0
            if self.spec.weight and highest >= len(self.spec.weight):
                raise SettingsError(
                    f"The data contain the class {highest}, but the loss has {len(self.spec.weight)} class weights.", _ONE_EACH
                )
            return
        if binary(targets) and targets[0].numel() > 1 and bool((targets.reshape(len(targets), -1).sum(1) == 1).all()):
            raise SettingsError(
                "The targets are one-hot floating-point numbers, but cross-entropy needs classes.",
                "If the labels exclude each other, store classes as integers (N,). If they do not, use --loss bce.",
            )
        if binary(targets):
            raise SettingsError(
                "The targets are floating-point numbers, all 0 or 1, but cross-entropy needs classes.",
                "Use --loss bce, the binary cross-entropy with one logit for each target.",
            )
        if bool(((targets >= 0) & (targets <= 1)).all()):
            raise SettingsError(
                "The targets are floating-point numbers between 0 and 1, but cross-entropy needs classes.",
                "If they are probabilities, use --loss bce. If they are not, use --loss mse.",
            )
        whole = targets[:1].numel() == 1 and bool((targets == targets.round()).all())
        raise SettingsError(
            "The targets are floating-point numbers, but cross-entropy needs classes.",
            "If they are classes, store them as integers. If they are not, use --loss mse." if whole else "Use --loss mse.",
        )


@dataclass(frozen=True)
class UnitLogitCrossEntropy(CrossEntropy):
    """The cross-entropy of logits that were first given mean 0 and length 1: it does not depend on their scale."""

    def _of_logits(self, logits: Tensor, classes: Tensor) -> Tensor:
        centred = logits - logits.mean(-1, keepdim=True)
        return super()._of_logits(functional.normalize(centred, dim=-1), classes)

    def precise_terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return `terms`: with unit logits none of them is close to 0."""
        return self.terms(outputs, targets)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Refuse: the second derivative of the normalisation is not written down."""
        raise NotImplementedError
