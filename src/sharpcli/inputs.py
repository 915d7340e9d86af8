"""The inputs of samples: one tensor, several tensors, or a source that reads them when they are used.

A model gets one tensor as its only argument, a tuple as positional arguments, and a dictionary as keyword arguments. The
first axis of every tensor is that of the samples. A data set that does not fit into memory is an `InputSource`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpcli.errors import InputError

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Index = slice | Tensor
MASK = "attention_mask"  # The input (B, L) that is 0 for tokens that a model must leave out.


class InputSource(ABC):
    """Inputs of N samples that are read when they are used, on the CPU."""

    @abstractmethod
    def __len__(self) -> int:
        """Return N."""

    @property
    @abstractmethod
    def first(self) -> Inputs:
        """The first sample, (1, ...); all samples have its shapes and types."""

    @abstractmethod
    def read(self, positions: list[int]) -> Inputs:
        """Read B samples by their positions; return tensors (B, ...).

        Raises:
            InputError: A sample cannot be read, or its shape differs from that of the first.
        """

    def of_files(self) -> bytes | None:
        """Return a hash that identifies the samples by their files; None if all samples must be read to identify them."""
        return None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Descriptions of changes to some of the samples that were read so far, such as a conversion of colours."""
        return ()

    def __getitem__(self, index: Index) -> Inputs:
        """Read some of the samples.

        Raises:
            InputError: A sample cannot be read, its shape differs from that of the first, or it contains NaN or infinity.
        """
        inputs = self.read(list(range(len(self)))[index] if isinstance(index, slice) else index.tolist())
        for part in tensors_in(inputs):
            require_finite("inputs", part)
        return inputs


class Selection(InputSource):
    """Some samples of a source, in any order."""

    def __init__(self, source: InputSource, positions: Tensor) -> None:
        """Choose samples by their positions in the source, shape (B,)."""
        self._source, self._positions = source, positions.tolist()

    def __len__(self) -> int:
        """Return the number of chosen samples."""
        return len(self._positions)

    @property
    def first(self) -> Inputs:
        """The first sample of the source, (1, ...)."""
        return self._source.first

    @property
    def remarks(self) -> tuple[str, ...]:
        """The remarks of the source."""
        return self._source.remarks

    def read(self, positions: list[int]) -> Inputs:
        """Read samples by their positions among the chosen ones."""
        return self._source.read([self._positions[position] for position in positions])


def require_finite(name: str, part: Tensor) -> None:
    """Refuse a floating-point tensor that contains NaN or infinity; `name` is its name in the message.

    Raises:
        InputError: A number is not finite.
    """
    if part.is_floating_point() and not bool(torch.isfinite(part).all()):
        raise InputError(f"The {name} contain NaN or infinity.", "Remove or repair those samples.")


def tensors_in(inputs: Inputs | InputSource) -> tuple[Tensor, ...]:
    """Return the tensors as a tuple, which is empty for a source."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    if isinstance(inputs, InputSource):
        return ()
    return inputs if isinstance(inputs, tuple) else tuple(inputs.values())


def num_samples(inputs: Inputs | InputSource) -> int:
    """Return N, the number of samples."""
    return len(inputs) if isinstance(inputs, Tensor | InputSource) else len(tensors_in(inputs)[0])


def first_sample(inputs: Inputs | InputSource) -> Inputs:
    """Return the first sample, (1, ...)."""
    return inputs.first if isinstance(inputs, InputSource) else select(inputs, slice(1))


def main_tensor(inputs: Inputs | InputSource) -> Tensor:
    """Return the first of the input tensors; for a source, that of its first sample."""
    return tensors_in(first_sample(inputs) if isinstance(inputs, InputSource) else inputs)[0]


def are_tokens(inputs: Inputs | InputSource) -> bool:
    """Return whether the first tensor is not floating-point, so that the model uses it as indices of a table."""
    return not main_tensor(inputs).is_floating_point()


def mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Apply a function to each tensor; return the results under the same names or positions."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, tuple):
        return tuple(change(part) for part in inputs)
    return {name: change(part) for name, part in inputs.items()}


def select(inputs: Inputs | InputSource, index: Index) -> Inputs:
    """Return some of the samples; those of a source are read now."""
    if isinstance(inputs, InputSource):
        return inputs[index]
    return mapped(inputs, lambda part: part[index if isinstance(index, slice) else index.to(part.device)])


def chosen(inputs: Inputs | InputSource, positions: Tensor) -> Inputs | InputSource:
    """Return the samples at some positions (B,); those of a source are read when they are used."""
    return Selection(inputs, positions) if isinstance(inputs, InputSource) else select(inputs, positions)


def converted(inputs: Inputs, device: torch.device, dtype: torch.dtype | None) -> Inputs:
    """Return the inputs on a device, with floating-point tensors converted to `dtype` unless it is None."""
    return mapped(inputs, lambda part: moved(part, device, dtype))


def moved(part: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor on a device, converted to `dtype` if it is floating-point and `dtype` is not None."""
    return part.to(device, dtype if part.is_floating_point() else None)


def copied(inputs: Inputs) -> Inputs:
    """Return a copy of all tensors."""
    return mapped(inputs, Tensor.clone)


def joined(parts: list[Inputs]) -> Inputs:
    """Return the samples of one or more parts, concatenated; all parts have the same names or positions."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    if isinstance(first, tuple):
        return tuple(torch.cat(same) for same in zip(*(tensors_in(part) for part in parts), strict=True))
    return {name: torch.cat([part[name] for part in parts if isinstance(part, dict)]) for name in first}


def as_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments that pass the inputs to a model."""
    if isinstance(inputs, dict):
        return (), dict(inputs)
    return tensors_in(inputs), {}


def sample_size(inputs: Inputs | InputSource) -> int:
    """Return the size of one sample in bytes, in the types in which it is stored or read."""
    return sum(part.nbytes for part in tensors_in(first_sample(inputs)))


def sample_shapes(inputs: Inputs | InputSource) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the name (or the position, as text) and the shape of each tensor of one sample, without the axis of samples."""
    one = first_sample(inputs)
    names = list(one) if isinstance(one, dict) else [str(position) for position in range(len(tensors_in(one)))]
    return tuple((name, tuple(part.shape[1:])) for name, part in zip(names, tensors_in(one), strict=True))


def described_shapes(inputs: Inputs | InputSource) -> str:
    """Return the shapes of one sample as text, such as "(3, 32, 32)" or "input_ids (16,), attention_mask (16,)"."""
    shapes = sample_shapes(inputs)
    if isinstance(first_sample(inputs), Tensor):
        return str(shapes[0][1])
    return ", ".join(f"{name} {shape}" for name, shape in shapes)
