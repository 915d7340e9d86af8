"""A loaded data set: a training and a test split, each with checked inputs and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.inputs import (
    Inputs,
    InputSource,
    are_tokens,
    chosen,
    described_shapes,
    first_sample,
    main_tensor,
    mapped,
    num_samples,
    require_finite,
    sample_shapes,
    select,
    tensors_in,
)
from sharpcli.losses import IGNORED

_BATCH = 1024
_FILES = "files:"  # Prefix of a fingerprint of files.
_FLOATS = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, on the CPU; several callers share the tensors, so do not write to them.

    Attributes:
        inputs: One tensor (N, ...), float32 or float64, or int64 for tokens; several such tensors, of which all but the
            first may also be bool masks; or a source of samples.
        targets: Classes, shape (N,) or (N, T, ...), int64, of which -100 is ignored; or regression targets or labels, shape
            (N, K), float32 or float64.

    Raises:
        InputError: The split is empty, a type or a shape is not allowed, inputs and targets differ in number, or a number in
            memory is not finite. Samples of a source are checked when they are read.
    """

    inputs: Inputs | InputSource
    targets: Tensor

    def __post_init__(self) -> None:
        held = tensors_in(self.inputs)
        main, *further = held or tensors_in(first_sample(self.inputs))
        _check_types(main, self.targets)
        for part in further:
            _check_types(part.long() if part.dtype == torch.bool else part, self.targets)  # A mask.
        for count in [len(part) for part in held] or [num_samples(self.inputs)]:
            if count != len(self.targets):
                counts = f"{count} inputs but {len(self.targets)} targets"
                raise InputError(f"The data have {counts}.", "Give every input one target.")
        if not len(self.targets):
            raise InputError("A split of the data is empty.", "Training and test data need a sample each.")
        for part in held:
            require_finite("inputs", part)
        require_finite("targets", self.targets)

    def __len__(self) -> int:
        """Return N, the number of samples."""
        return len(self.targets)

    def chosen(self, positions: Tensor) -> Split:
        """Return the split of the samples at some positions (B,)."""
        return Split(chosen(self.inputs, positions), self.targets[positions])


@dataclass(frozen=True, eq=False)
class DataSplits:
    """A data set with a training split and, optionally, a test split.

    Attributes:
        name: Name of the data set, for messages.
        train: The split over which losses, gradients and curvature are computed by default.
        test: The split on which generalization is measured; None if the data have no test split.
        num_classes: Number of classes C, or K for floating-point targets (N, K).
        changes: Changes of all inputs between the file and the model, in words.
        transform: The text of `--transform` that changes images of another file in the same way; "" if there is none.

    Raises:
        InputError: The splits differ in the types or shapes of samples or targets, a class other than -100 is outside
            0..C-1, all targets of a split are ignored, or floating-point targets do not have K columns.
    """

    name: str
    train: Split
    test: Split | None
    num_classes: int
    changes: str = "numbers as given"
    transform: str = ""

    def __post_init__(self) -> None:
        if self.test is not None:
            self._check_alike(self.test)
        for part, split in self.parts().items():
            _check_targets(split.targets, self.num_classes, {"train": "training"}.get(part, part))

    def _check_alike(self, test: Split) -> None:
        if sample_shapes(self.train.inputs) != sample_shapes(test.inputs):
            shapes = f"{described_shapes(self.train.inputs)} and {described_shapes(test.inputs)}"
            raise InputError(f"Training and test samples have shapes {shapes}.", "Give both the same shape.")
        if are_tokens(self.train.inputs) != are_tokens(test.inputs):
            raise InputError("Only one split has tokens as inputs.", "Give both the same type of input.")
        if self.train.targets.is_floating_point() != test.targets.is_floating_point():
            raise InputError("Only one split has classes as targets.", "Give both the same type of target.")
        if not self.train.targets.is_floating_point() and self.train.targets.shape[1:] != test.targets.shape[1:]:
            shapes = f"{tuple(self.train.targets.shape[1:])} and {tuple(test.targets.shape[1:])}"
            raise InputError(f"One sample of training and test targets have shapes {shapes}.", "Give both the same shape.")

    @property
    def preprocessing(self) -> str:
        """Changes of the inputs, in words: those of all inputs, then those of some of the samples that were read so far."""
        sources = [split.inputs for split in self.parts().values() if isinstance(split.inputs, InputSource)]
        return ", ".join([self.changes, *sorted({remark for source in sources for remark in source.remarks})])

    def parts(self) -> dict[str, Split]:
        """Return the splits by name, "train" and, if there is one, "test"."""
        return {"train": self.train} | ({} if self.test is None else {"test": self.test})

    def part(self, name: str) -> Split:
        """Return a split by name.

        Raises:
            InputError: The data have no split of this name.
        """
        split = self.parts().get(name)
        if split is None:
            raise InputError(f"The data '{self.name}' have no {name} split.", "Give data with both, or use --split train.")
        return split

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (1, 28, 28); if a sample has several tensors, the shape of the first."""
        return tuple(main_tensor(self.train.inputs).shape[1:])

    @property
    def first_samples(self) -> Inputs | None:
        """The first sample twice, (2, ...), to test a model; None if a sample is one tensor, since its shape is then enough."""
        one = first_sample(self.train.inputs)
        return None if isinstance(one, Tensor) else mapped(one, lambda part: torch.cat([part, part]))

    def fingerprint(self) -> str:
        """Return a text that identifies the data; it is computed once.

        The text is the SHA-256 (hex) of the shapes, types and values of all tensors, with floating-point numbers rounded to
        float32. For images in files, the text is `files:` and the SHA-256 of the hashes of the files (see
        `InputSource.of_files`) and of the targets.
        """
        return self._fingerprint

    def has_fingerprint(self, recorded: str) -> bool:
        """Return whether a recorded fingerprint identifies these data; for files, the hash of all tensors is accepted, too."""
        own = self.fingerprint()
        as_tensors = own.startswith(_FILES) and not recorded.startswith(_FILES)
        return recorded == own or (as_tensors and recorded == self._hash(as_files=False))

    @cached_property
    def _fingerprint(self) -> str:
        return self._hash(as_files=True)

    def _hash(self, *, as_files: bool) -> str:
        digest, prefix = hashlib.sha256(), ""
        for split in self.parts().values():
            of_files = split.inputs.of_files() if as_files and isinstance(split.inputs, InputSource) else None
            if of_files is not None:
                digest.update(of_files)
                prefix = _FILES
            else:
                _hash_inputs(split.inputs, digest.update)
            _hash_tensor(split.targets.shape, [split.targets], digest.update)
        return prefix + digest.hexdigest()


def _hash_inputs(inputs: Inputs | InputSource, update: Callable[[bytes], None]) -> None:
    if not isinstance(first_sample(inputs), Tensor):
        update(repr(sample_shapes(inputs)).encode())
    count = num_samples(inputs)
    for number, one in enumerate(tensors_in(first_sample(inputs))):
        batches = (tensors_in(select(inputs, slice(start, start + _BATCH)))[number] for start in range(0, count, _BATCH))
        _hash_tensor(torch.Size([count, *one.shape[1:]]), batches, update)


def _hash_tensor(shape: torch.Size, batches: Iterable[Tensor], update: Callable[[bytes], None]) -> None:
    for number, batch in enumerate(batches):
        numbers = batch.float() if batch.is_floating_point() else batch  # Equal for float32 and float64.
        if number == 0:
            update(f"{tuple(shape)} {numbers.dtype};".encode())
        update(numbers.contiguous().numpy().tobytes())


def _check_types(inputs: Tensor, targets: Tensor) -> None:
    classes = targets.dtype == torch.int64 and targets.ndim > 0
    values = targets.dtype in _FLOATS and targets.ndim == 2
    if inputs.ndim == 0 or inputs.dtype not in (*_FLOATS, torch.int64) or not (classes or values):
        types = f"{inputs.dtype} inputs and {targets.dtype} targets of shape {tuple(targets.shape)}"
        hint = "Use float inputs or int64 tokens, and int64 classes (N,) or (N, T), or float values (N, K)."
        raise InputError(f"The data have {types}.", hint)


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
