"""The axis of the classes in the outputs: the last axis, as in language models, or axis 1, as in torch's cross_entropy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.settings.losses import FIRST, LAST, LossSpec

BLOCK = 2**20  # Number of entries of a temporary tensor; larger only if a single row has more.


def class_axis(outputs: Tensor, classes: Tensor, spec: LossSpec) -> int:
    """Return the axis of the classes in the outputs, -1 or 1.

    Args:
        outputs: Shape (B, C), (B, T, ..., C) or (B, C, T, ...).
        classes: Shape (B,) or (B, T, ...).
        spec: The loss. If its `class_axis` is not None and outputs have more than two axes, only this axis is accepted.

    Raises:
        ValueError: The shapes do not fit, or do not fit with the chosen axis.
        InputError: Both axes fit, and none is chosen.
    """
    last = outputs.shape[:-1] == classes.shape
    first = outputs.ndim > 2 and (outputs.shape[0], *outputs.shape[2:]) == tuple(classes.shape)
    chosen = spec.class_axis if outputs.ndim > 2 else None  # With two axes, axis 1 is the last axis.
    if (chosen == LAST and last) or (chosen == FIRST and first):
        return chosen
    if chosen is not None or not (last or first):
        along = "" if chosen is None else " along the last axis" if chosen == LAST else " along axis 1"
        raise ValueError(f"outputs {tuple(outputs.shape)} do not fit classes {tuple(classes.shape)}{along}")
    if last and first:
        shapes = [f"(N, {', '.join(map(str, part.shape[1:]))})" for part in (outputs, classes)]
        raise InputError(
            f"Outputs {shapes[0]} fit targets {shapes[1]} in two ways: the classes can be along axis 1 or along the last axis.",
            f"Choose one: --loss {replace(spec, class_axis=FIRST)}, as in torch's cross_entropy, "
            f"or --loss {replace(spec, class_axis=LAST)}, as in language models.",
        )
    return LAST if last else FIRST


def classes_last(outputs: Tensor, classes: Tensor, spec: LossSpec) -> Tensor:
    """Return a view of the outputs with the axis of the classes moved to the end; see `class_axis`."""
    return outputs.movedim(class_axis(outputs, classes, spec), -1)


def flat(outputs: Tensor, classes: Tensor) -> Tensor:
    """Return outputs (B, C, 1, ...) as (B, C) if the classes have the shape (B,); return other outputs unchanged."""
    whole = classes.ndim == 1 and outputs.ndim > 2 and outputs[:1, :1].numel() == 1
    return outputs.flatten(1) if whole else outputs


def blocks(outputs: Tensor, direction: Tensor, classes: Tensor, spec: LossSpec) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield blocks of outputs, direction and classes, with the class axis last; blocks of the direction are views."""
    parts = [classes_last(outputs, classes, spec), classes_last(direction, classes, spec), classes]
    if parts[1].is_contiguous():
        parts = [*(part.flatten(0, -2) for part in parts[:2]), classes.flatten()]
    rows = max(1, BLOCK // max(parts[1][0].numel(), 1))
    for start in range(0, len(parts[2]), rows):
        some, along, wanted = (part[start : start + rows] for part in parts)
        yield some, along, wanted
