"""What every data set is once it is loaded: two checked pairs of tensors in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.losses import IGNORED


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, whole, on the CPU; shared between callers, so never written to.

    Attributes:
        inputs: Samples, shape (N, ...), float32; or tokens, int64.
        targets: Classes, shape (N,) or (N, T, ...), int64, where -100 is ignored; or values to regress on, (N, K), float32.

    Raises:
        InputError: Nothing in it, numbers of inputs and targets that differ, or numbers that are not finite.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        _check_types(self.inputs, self.targets)
        if len(self.inputs) != len(self.targets):
            counts = f"{len(self.inputs)} inputs but {len(self.targets)} targets"
            raise InputError(f"The data have {counts}.", "Give every input one target.")
        if len(self.inputs) == 0:
            raise InputError("A split of the data is empty.", "Training and test data need a sample each.")
        for name, tensor in (("inputs", self.inputs), ("targets", self.targets)):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise InputError(f"The {name} hold NaN or infinity.", "Remove or repair those samples.")

    def __len__(self) -> int:
        """Return N, the number of samples."""
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class DataSplits:
    """A data set: its training and its test split.

    Attributes:
        name: What the user called it.
        train: The split that losses, gradients and curvature are taken over.
        test: The split that generalization is measured on.
        num_classes: C, or K for regression.

    Raises:
        InputError: Samples or targets of different types or shapes, classes outside 0..C-1 other than -100, no class
            at all in a split, or targets of another width than K.
    """

    name: str
    train: Split
    test: Split
    num_classes: int

    def __post_init__(self) -> None:
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            shapes = f"{tuple(self.train.inputs.shape[1:])} and {tuple(self.test.inputs.shape[1:])}"
            raise InputError(f"Training and test samples have shapes {shapes}.", "Give both the same shape.")
        if self.train.inputs.dtype != self.test.inputs.dtype:
            raise InputError("Only one split has tokens as inputs.", "Give both the same type of input.")
        if self.train.targets.dtype != self.test.targets.dtype:
            raise InputError("Only one split has classes as targets.", "Give both the same type of target.")
        if not self.train.targets.is_floating_point() and self.train.targets.shape[1:] != self.test.targets.shape[1:]:
            shapes = f"{tuple(self.train.targets.shape[1:])} and {tuple(self.test.targets.shape[1:])}"
            raise InputError(f"One sample of training and test targets have shapes {shapes}.", "Give both the same shape.")
        for part, split in (("training", self.train), ("test", self.test)):
            _check_targets(split.targets, self.num_classes, part)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (1, 28, 28)."""
        return tuple(self.train.inputs.shape[1:])

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the shapes, types and bytes of all four tensors; computed once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.inputs, split.targets):
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def _check_types(inputs: Tensor, targets: Tensor) -> None:
    classes = targets.dtype == torch.int64 and targets.ndim > 0
    values = targets.dtype == torch.float32 and targets.ndim == 2
    if inputs.ndim == 0 or inputs.dtype not in (torch.float32, torch.int64) or not (classes or values):
        found = f"{inputs.dtype} inputs and {targets.dtype} targets of shape {tuple(targets.shape)}"
        hint = "Use float32 inputs or int64 tokens, and int64 classes (N,) or (N, T), or float32 values (N, K)."
        raise InputError(f"The data have {found}.", hint)


def _check_targets(targets: Tensor, num_classes: int, part: str) -> None:
    if targets.is_floating_point():
        if targets.shape[1] != num_classes:
            message = f"The {part} targets have {targets.shape[1]} columns, not {num_classes}."
            raise InputError(message, "Give both splits targets of one shape.")
        return
    counted = targets[targets != IGNORED]
    if not len(counted):
        raise InputError(f"Every {part} target is ignored.", f"Give some samples a class, not {IGNORED}.")
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= num_classes:
        message = f"The {part} classes run from {low} to {high}, outside 0 to {num_classes - 1}."
        raise InputError(message, "Count classes from 0, and let every class occur in the training data.")
