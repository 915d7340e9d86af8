"""What a model's answer costs: the two losses, term by term, with their second derivative in the outputs.

A loss term is what a mean is over: a sample, or a token where every token has a class of its own.
Integer targets equal to `IGNORED` are no terms: they cost nothing and are not counted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sharpcli.errors import InputError, SettingsError

IGNORED = -100  # What torch calls ignore_index, with its default.
_BLOCK = 2**20  # Numbers of a temporary tensor.


@dataclass(frozen=True)
class Loss(ABC):
    """A loss as a function of outputs and targets.

    Targets are classes (B,) or (B, T, ...), or numbers (B, K). For classes (B, T, ...) the outputs are
    (B, T, ..., C) as language models lay them out or, only where those shapes do not fit, (B, C, T, ...) as torch does.
    """

    @abstractmethod
    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return one number per loss term, of the shape of the classes or (B,) for numbers; 0 where ignored.

        Raises:
            ValueError: The shapes do not fit.
        """

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

    def count(self, targets: Tensor) -> int:
        """Return the number of loss terms."""
        return len(targets) if targets.is_floating_point() else int((targets != IGNORED).sum())

    def told(self, targets: Tensor) -> Tensor:
        """Return which samples have a loss term, booleans (B,)."""
        if targets.is_floating_point():
            return torch.ones(len(targets), dtype=torch.bool, device=targets.device)
        return (targets != IGNORED).reshape(len(targets), -1).any(1)

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Refuse classes that the outputs do not have.

        Args:
            outputs: For some samples.
            targets: Of them, for their shape.
            every: The targets of all samples.

        Raises:
            InputError: There is one.
        """
        if targets.is_floating_point():
            return
        count, highest = _classes_last(_flat(outputs, targets), targets).shape[-1], int(every.max())
        if highest >= count:
            raise InputError(
                f"The data has the class {highest}, but the model has {count} outputs.",
                f"Classes are counted from 0; give the data or --model that belong together, or {IGNORED} to ignore a target.",
            )

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which terms are predicted right, booleans of the shape of `terms`; none of them for numbers."""
        if targets.is_floating_point():
            return torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
        return _classes_last(outputs, targets).argmax(-1) == targets

    def sample_sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return, for each sample, its summed loss, number of right predictions and number of loss terms, shape (3, B)."""
        terms = self.terms(outputs, targets)
        counted = torch.ones_like(terms) if targets.is_floating_point() else targets != IGNORED
        parts = (terms, self.right(outputs, targets), counted)
        return torch.stack([part.to(terms.dtype).reshape(len(targets), -1).sum(1) for part in parts])


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """The cross-entropy of logits against classes, in nats.

    Attributes:
        smoothing: Share of a target that is spread over all classes (Szegedy et al. 2016, section 7). It does not
            change the second derivative in the logits.
    """

    smoothing: float = 0.0

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return -log softmax(logits)[class], or the smoothed mean of such terms over the classes."""
        logits = _classes_last(outputs, targets)
        flat = functional.cross_entropy(
            logits.flatten(0, -2),
            targets.flatten(),
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=self.smoothing,
        )
        return flat.view_as(targets)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Make a direction d (diag(p) - ppᵀ) d of every term (Böhning 1992), some terms at a time."""
        for some, along, classes in _blocks(outputs.detach(), direction, targets):
            chances = torch.softmax(some, -1)
            along.mul_(chances)
            along.addcmul_(chances, along.sum(-1, keepdim=True), value=-1)
            along.masked_fill_((classes == IGNORED).unsqueeze(-1), 0)
        return direction


@dataclass(frozen=True)
class HalfSquaredError(Loss):
    """Half the squared error, summed over the outputs of a term; classes count as one-hot."""

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ½ |outputs - target|²."""
        if targets.is_floating_point():
            outputs = outputs.flatten(1)
            return 0.5 * (outputs - targets.to(outputs.dtype).view_as(outputs)).square().sum(1)
        outputs = _classes_last(_flat(outputs, targets), targets)
        wanted = functional.one_hot(targets.clamp_min(0), outputs.shape[-1]).to(outputs.dtype)
        # Not multiplied by the mask: an output that is not finite must not leak out of what is ignored.
        return torch.where(targets != IGNORED, 0.5 * (outputs - wanted).square().sum(-1), 0)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Leave a direction as it is, but for what is ignored: the Hessian is the identity."""
        if not targets.is_floating_point():
            axis = _class_axis(_flat(outputs, targets), targets)
            _flat(direction, targets).masked_fill_((targets == IGNORED).unsqueeze(axis), 0)
        return direction


@dataclass(frozen=True)
class UnitLogitCrossEntropy(CrossEntropy):
    """The cross-entropy of logits that were first given mean 0 and length 1: it does not depend on their scale."""

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return -log softmax(unit logits)[class]."""
        logits = _classes_last(outputs, targets)
        centred = logits - logits.mean(-1, keepdim=True)
        return super().terms(functional.normalize(centred, dim=-1), targets)

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Refuse: the second derivative of the normalisation is not written down."""
        raise NotImplementedError


_UNIT_LOGITS = "ce-unit-logits"
LOSSES: dict[str, Loss] = {"ce": CrossEntropy(), "mse": HalfSquaredError()}
_SMOOTHED = "ce:"


def smoothed(name: str, share: float) -> str:
    """Return the name of a loss with its targets smoothed, which only cross-entropy can be; such as "ce:0.1"."""
    return f"{_SMOOTHED}{share!r}" if share else name


def loss_named(name: str) -> Loss:
    """Return the loss of a name.

    Raises:
        SettingsError: There is no such loss.
    """
    if name == _UNIT_LOGITS:
        return UnitLogitCrossEntropy()
    if name.startswith(_SMOOTHED):
        return CrossEntropy(float(name.removeprefix(_SMOOTHED)))
    if name not in LOSSES:
        raise SettingsError(f"There is no loss called '{name}'.", f"Known: {', '.join(LOSSES)}.")
    return LOSSES[name]


def loss_of(name: str, targets: Tensor) -> Loss:
    """Return the loss of a name that is to be averaged over these targets.

    Raises:
        InputError: There is nothing to average.
        SettingsError: There is no such loss, or it needs other targets.
    """
    loss = loss_named(name)
    if isinstance(loss, CrossEntropy) and targets.is_floating_point():
        raise SettingsError("The targets are numbers, not classes, and cross-entropy needs classes.", "Use --loss mse.")
    if not loss.count(targets):
        raise InputError("Every target is ignored, so there is no loss to average.", f"Give some a class, not {IGNORED}.")
    return loss


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over all loss terms of N samples, with the standard error of each mean.

    Samples are taken as independent of each other, the terms of one sample (its tokens) are not.
    """

    loss: float
    loss_standard_error: float
    accuracy: float | None
    accuracy_standard_error: float | None
    num_samples: int

    @staticmethod
    def of(means: Tensor, num_samples: int, num_terms: int, *, classified: bool) -> Evaluation:
        """Make one of the `moments` of all samples, added up and divided by the number of terms; no accuracy for numbers."""
        loss, right = (float(mean) for mean in means[:2, 0])
        errors = [_standard_error(means, row, num_samples, num_terms) for row in (0, 1)]
        return Evaluation(loss, errors[0], right if classified else None, errors[1] if classified else None, num_samples)


def moments(sums: Tensor) -> Tensor:
    """Return the sums over samples of `Loss.sample_sums` (3, B), and of the products of any two, shape (3, 1 + 3)."""
    return torch.cat([sums.sum(1, keepdim=True), sums @ sums.T], 1)


def _standard_error(means: Tensor, row: int, num_samples: int, num_terms: int) -> float:
    """Return that of a ratio of sums over samples, Σ s_i / Σ n_i; NaN for one sample, which has none.

    References:
        Cochran, Sampling Techniques, 3rd ed., section 6.3. With one term a sample it is that of a plain mean.
    """
    mean, products = float(means[row, 0]), means[:, 1:]
    variance = float(products[row, row] - 2 * mean * products[row, 2] + mean**2 * products[2, 2])
    if num_samples < 2 or not math.isfinite(variance):
        return math.nan
    return math.sqrt(max(variance, 0) / num_terms * num_samples / (num_samples - 1))


def _flat(outputs: Tensor, classes: Tensor) -> Tensor:
    """Return outputs (B, C, 1, ...) of a model that classifies whole samples as (B, C)."""
    return outputs.flatten(1) if classes.ndim == 1 else outputs


def _class_axis(outputs: Tensor, classes: Tensor) -> int:
    """Return the axis of the outputs that the classes count along: the last one wherever that fits."""
    if outputs.shape[:-1] == classes.shape:
        return -1
    if outputs.ndim > 2 and (outputs.shape[0], *outputs.shape[2:]) == tuple(classes.shape):
        return 1
    raise ValueError(f"outputs {tuple(outputs.shape)} do not fit classes {tuple(classes.shape)}")


def _classes_last(outputs: Tensor, classes: Tensor) -> Tensor:
    return outputs.movedim(_class_axis(outputs, classes), -1)


def _blocks(outputs: Tensor, direction: Tensor, classes: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cut outputs, a direction and classes into parts of some terms each, classes last; those of the direction are views."""
    parts = [_classes_last(outputs, classes), _classes_last(direction, classes), classes]
    if parts[1].is_contiguous():
        parts = [*(part.flatten(0, -2) for part in parts[:2]), classes.flatten()]
    rows = max(1, _BLOCK // max(parts[1][0].numel(), 1))
    for start in range(0, len(parts[2]), rows):
        some, along, wanted = (part[start : start + rows] for part in parts)
        yield some, along, wanted
