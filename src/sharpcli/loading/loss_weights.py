"""Class weights in a checkpoint file: they belong to the training loss, and the same loss without them has another Hessian."""

from __future__ import annotations

import math

from torch import Tensor

from sharpcli import progress
from sharpcli.checkpoints import Checkpoint, of_a_loss
from sharpcli.settings.losses import OPTIONS, LossSpec

_LONGEST = 20  # Maximum number of weights that a warning lists.


def warn_of_loss_weights(checkpoint: Checkpoint, loss: str) -> None:
    """Warn if a checkpoint contains weights of a loss, such as `criterion.weight`, that differ from those of the measured loss.

    Args:
        checkpoint: The checkpoint.
        loss: Name of the measured loss, with its options.
    """
    spec = LossSpec.parse(loss)
    for name in filter(of_a_loss, checkpoint.state):
        option = name.rpartition(".")[2]
        if option not in ("weight", "pos_weight") or option not in OPTIONS.get(spec.name, ()):
            continue
        weights = _weights(checkpoint.state[name])
        if weights is None or _equal(weights, getattr(spec, option)):
            continue
        listed = "/".join(f"{weight:.7g}" for weight in weights)
        flag = f"--loss {spec.name}:{option}={listed if len(weights) <= _LONGEST else 'X/X/...'}"
        progress.warn(
            f"{checkpoint.path} contains {option} of its training loss in '{name}', but the measured loss is {loss}. "
            f"If it was trained with these {len(weights)} weights, add {flag}."
        )


def _weights(tensor: Tensor) -> tuple[float, ...] | None:
    """Return the weights in a tensor; None if the tensor cannot contain weights, or if all weights are 1."""
    if tensor.ndim > 1 or not tensor.is_floating_point() or not tensor.numel():
        return None
    weights = tuple(tensor.double().flatten().tolist())
    return None if all(weight == 1 for weight in weights) else weights


def _equal(ones: tuple[float, ...], others: tuple[float, ...]) -> bool:
    same_length = len(ones) == len(others)
    return same_length and all(math.isclose(one, other, rel_tol=1e-5) for one, other in zip(ones, others, strict=True))
