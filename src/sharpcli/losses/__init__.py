"""Losses, one per file: the loss terms, and the second derivative of their sum with respect to the outputs."""

from __future__ import annotations

from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.losses.binary_cross_entropy import BinaryCrossEntropy
from sharpcli.losses.cross_entropy import CrossEntropy, UnitLogitCrossEntropy
from sharpcli.losses.evaluation import Evaluation, moments
from sharpcli.losses.half_squared_error import HalfSquaredError
from sharpcli.losses.loss import Loss
from sharpcli.losses.one_hot import one_hot, refused
from sharpcli.losses.user_loss import UserLoss, user_loss_function
from sharpcli.settings.losses import IGNORED, UNIT_LOGITS, LossSpec, smoothed

__all__ = [
    "IGNORED",
    "LOSSES",
    "Evaluation",
    "Loss",
    "UserLoss",
    "loss_named",
    "loss_of",
    "moments",
    "one_hot",
    "refused",
    "smoothed",
]

_KINDS: dict[str, type[Loss]] = {
    "ce": CrossEntropy,
    "mse": HalfSquaredError,
    "bce": BinaryCrossEntropy,
    UNIT_LOGITS: UnitLogitCrossEntropy,
}
LOSSES: dict[str, Loss] = {name: kind(LossSpec(name)) for name, kind in _KINDS.items() if name != UNIT_LOGITS}


def loss_named(name: str) -> Loss:
    """Return the loss with a given name and options, such as "ce:class_axis=1"; see `LossSpec`.

    Raises:
        SettingsError: There is no such loss or option.
        InputError: The name is that of code of the user, which cannot be imported.
    """
    spec = LossSpec.parse(name)
    return UserLoss(spec, user_loss_function(spec.name)) if spec.is_code else _KINDS[spec.name](spec)


def loss_of(name: str, targets: Tensor) -> Loss:
    """Return the loss with a given name and options, after a check that it can be averaged over the targets.

    Args:
        name: Name of the loss; see `loss_named`.
        targets: All targets, (N, ...).

    Raises:
        InputError: Every target is ignored or has weight 0, or code of the user cannot be imported.
        SettingsError: There is no such loss or option, or the loss does not accept such targets.
    """
    loss = loss_named(name)
    loss.require_targets(targets)
    if not loss.count(targets):
        raise InputError(
            "Every target is ignored, so there is no loss to average.", f"Some targets must be a class, not {IGNORED}."
        )
    if not loss.total_weight(targets):
        raise InputError(
            f"Every target has a class of weight 0 in the loss '{name}'.",
            "At least one class of the data needs a weight above 0.",
        )
    return loss
