"""The forms of a batch of the user's data: a tuple, a list or a dictionary of arrays, with inputs and targets.

- `(inputs, targets)`, or `(first, second, ..., targets)` for a model with several arguments.
- `((first, second, ...), targets)` or `({"name": array, ...}, targets)`.
- A dictionary as in the data sets of Hugging Face: inputs by name, and targets called `labels` or another name in
  `_TARGETS`. Without targets, the targets are the tokens, `input_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.inputs import MASK, Inputs, tensors_in
from sharpcli.losses import IGNORED

TOKENS = "input_ids"
SHAPES = (
    "Let a batch be (inputs, targets), or a dictionary with labels or targets, and with pixel_values, input_ids, inputs or "
    "the names of the model's arguments."
)
_MAIN = ("pixel_values", TOKENS, "inputs", "input", "x", "images", "image", "features", "data")
_TARGETS = ("labels", "label", "targets", "target", "y", "classes")


class Batch(NamedTuple):
    """Inputs and targets of B samples.

    Attributes:
        inputs: One or several tensors (B, ...), in the form in which the model gets them.
        targets: Shape (B, ...).
        texts: Whether an input is called `input_ids`; the targets can then be the tokens themselves.
    """

    inputs: Inputs
    targets: Tensor
    texts: bool = False


def batch_of(value: Any, spec: str) -> Batch:
    """Return the tensors of a batch, on the CPU.

    Args:
        value: The batch.
        spec: The spec of the code that returns the batch, for messages.

    Raises:
        InputError: The value has no inputs or no targets.
    """
    if isinstance(value, Mapping):
        return _of_mapping(value, spec)
    if not is_batch(value):
        raise InputError(f"A batch of '{spec}' is {described(value)}.", SHAPES)
    *inputs, targets = value
    if len(inputs) > 1:
        return Batch(tuple(map(_tensor, inputs)), _tensor(targets))
    (only,) = inputs
    if isinstance(only, Mapping):
        by_name = {name: _tensor(part) for name, part in only.items()}
        return Batch(_ordered(by_name), _tensor(targets), TOKENS in by_name)
    if isinstance(only, tuple | list):
        return Batch(tuple(map(_tensor, only)), _tensor(targets))
    return Batch(_tensor(only), _tensor(targets))


def is_batch(value: Any) -> bool:
    """Return whether a value is a batch of arrays; a dictionary is a batch only if it contains targets."""
    if isinstance(value, Mapping):
        return any(is_array(value.get(name)) for name in _TARGETS)
    if not isinstance(value, tuple | list) or len(value) < 2 or not is_array(value[-1]):
        return False
    if len(value) > 2:
        return all(map(is_array, value))
    parts = value[0].values() if isinstance(value[0], Mapping) else value[0]
    several = isinstance(value[0], Mapping | tuple | list) and len(value[0]) > 0 and all(map(is_array, parts))
    return is_array(value[0]) or several


def is_sample(value: Any) -> bool:
    """Return whether a value is one sample: a tuple, list or dictionary whose target is one number."""
    targets = [value.get(name) for name in _TARGETS if name in value] if isinstance(value, Mapping) else value
    if not isinstance(targets, tuple | list) or not targets:
        return False
    return isinstance(targets[-1], int | float) or (is_array(targets[-1]) and targets[-1].ndim == 0)


def is_array(value: Any) -> bool:
    """Return whether a value is a NumPy array or a tensor."""
    return isinstance(value, Tensor | np.ndarray)


def same_batch(first: Any, second: Any) -> bool:
    """Return whether two batches contain equal tensors."""
    ours, theirs = ([*tensors_in(batch.inputs), batch.targets] for batch in (first, second))
    return len(ours) == len(theirs) and all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


def described(value: Any) -> str:
    """Return a description of a value: its types and shapes in words."""
    if is_array(value):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "a dictionary of " + (", ".join(f"{name}: {described(part)}" for name, part in value.items()) or "nothing")
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of " + (", ".join(described(part) for part in value[:5]) or "nothing")
    return f"a {type(value).__name__}"


def _of_mapping(batch: Mapping[str, Any], spec: str) -> Batch:
    entries = {str(name): _tensor(value) for name, value in batch.items() if is_array(value)}
    targets = next((entries.pop(name) for name in _TARGETS if name in entries), None)
    if targets is None:
        targets = entries.get(TOKENS)
        mask = entries.get(MASK)
        if targets is not None and mask is not None and mask.shape == targets.shape:
            targets = targets.masked_fill(mask == 0, IGNORED)
    if targets is None or not entries:
        raise InputError(f"A batch of '{spec}' is {described(batch)}.", SHAPES)
    return Batch(_ordered(entries), targets, TOKENS in entries)


def _ordered(entries: dict[str, Tensor]) -> Inputs:
    """Return the inputs by name, the main input first; a single input is returned as a tensor."""
    if len(entries) == 1:
        return next(iter(entries.values()))
    main = next((name for name in _MAIN if name in entries), next(iter(entries)))
    return {main: entries[main]} | entries


def _tensor(value: Any) -> Tensor:
    return value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
