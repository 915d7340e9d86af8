"""The cross-entropy of logits and classes, in nats."""

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
    """The loss -w log softmax(logits)[class], where w is the weight of the class, optionally with label smoothing.

    As in torch.nn.CrossEntropyLoss, weights multiply the terms, also those that smoothing adds, and the mean is the sum of the
    terms divided by the sum of the weights of the targets. Without weights, smoothing does not change the second derivative
    with respect to the logits.

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7 (smoothing).
    """

    def weights(self, targets: Tensor) -> Tensor | None:
        """Return the weight of the class of each target, float64, 0 for ignored targets; None if the loss has no weights."""
        if not self.spec.weight:
            return None
        classes = self.classes(targets)
        return torch.where(classes != IGNORED, self._weight_of_classes(classes, torch.float64)[classes.clamp_min(0)], 0)

    @property
    def has_plain_terms(self) -> bool:
        """Whether the loss has no class weights, so that the divisor of the mean is the number of terms."""
        return not self.spec.weight

    def _weight_of_classes(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.tensor(self.spec.weight, dtype=dtype, device=like.device)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss terms, in the shape of the targets: -w log softmax(logits)[class] without smoothing."""
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
        """Return the loss terms, with a small relative error also for terms close to 0.

        Without smoothing, a term is w log(1 + Σ exp(z_k - z_y)), with the sum over all classes k except the class y of the
        target.
        """
        if self.spec.smoothing:
            return self.terms(outputs, targets)  # With smoothing, no term is close to 0.
        classes = self.classes(targets)
        logits, chosen = classes_last(outputs, targets, self.spec), classes.clamp_min(0).unsqueeze(-1)
        others = (logits - logits.gather(-1, chosen)).scatter(-1, chosen, -math.inf).logsumexp(-1)
        terms = torch.logaddexp(torch.zeros_like(others), others)
        weights = self.weights(targets)
        return torch.where(classes != IGNORED, terms if weights is None else terms * weights.to(terms.dtype), 0)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Replace a direction d by a (diag(p) - ppᵀ) d for each term, with p = softmax(z), block by block (Böhning 1992).

        a is the sum of the smoothed and weighted target over the classes, which is 1 without weights. See
        `Loss.output_hessian_`.
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
        """Return the entropy of the (weighted and smoothed) targets, and the share of the most frequent class."""
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
        """Return the number of class weights, or the number of classes if the loss has no weights."""
        return len(self.spec.weight) or num_classes

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse classes that the outputs do not have, and a number of class weights other than the number of classes.

        Raises:
            InputError: See `ClassLoss.require_classes`; also if the number of class weights is wrong.
            ValueError: The shapes do not fit.
        """
        super().require_classes(outputs, targets, every)
        count = classes_last(flat(outputs, targets), targets, self.spec).shape[-1]
        if self.spec.weight and len(self.spec.weight) != count:
            raise InputError(
                f"The model has {count} outputs, but the loss has {len(self.spec.weight)} class weights.",
                _ONE_EACH,
            )

    def require_targets(self, targets: Tensor) -> None:
        """Refuse floating-point targets, and classes without a weight if the loss has weights.

        Raises:
            SettingsError: There are such targets.
        """
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
    """The cross-entropy of logits that are first shifted to mean 0 and scaled to norm 1, so that their scale has no effect.

    References:
        Andriushchenko et al., ICML 2023 (logit normalisation).
    """

    def _of_logits(self, logits: Tensor, classes: Tensor) -> Tensor:
        centred = logits - logits.mean(-1, keepdim=True)
        return super()._of_logits(functional.normalize(centred, dim=-1), classes)

    def precise_terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss terms; with logits of norm 1, no term is close to 0."""
        return self.terms(outputs, targets)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Raise NotImplementedError: the second derivative of the normalisation is not implemented."""
        raise NotImplementedError
