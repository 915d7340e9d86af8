"""One-hot integer targets: they are refused, because they can also be read as classes of tokens or as independent labels."""

from __future__ import annotations

from torch import Tensor

from sharpcli.errors import InputError


def one_hot(targets: Tensor) -> bool:
    """Return whether targets are integers (N, K), K > 1, with exactly one 1 in each row and 0 elsewhere."""
    if targets.is_floating_point() or targets.ndim != 2 or targets.shape[1] == 1:
        return False
    return bool(((targets == 0) | (targets == 1)).all()) and bool((targets.sum(1) == 1).all())


def refused(targets: Tensor) -> InputError:
    """Return the error for one-hot integer targets (N, K)."""
    shape = f"(N, {targets.shape[1]})"
    return InputError(
        f"The targets are one-hot integers of shape {shape}: for each sample, one is 1 and the others are 0.",
        "Store classes as integers (N,). For mse, store the targets as floating-point numbers. Use --loss bce only if the "
        "labels do not exclude each other.",
    )
