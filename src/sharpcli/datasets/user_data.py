"""Data from the user's code, `file.py:name` or `pkg.mod:name`: datasets, loaders, arrays or a data module, as tensors.

The name is a function without required arguments, or the data themselves. They are one of

- `{"train": part, "test": part}`, where "val" or "validation" stand for "test", or `(train, test)`;
- an object with `train_dataloader` and perhaps `val_dataloader` or, without it, `test_dataloader`, as a data module of
  Lightning has;
- one part, which is then the training data;

and a part is a map-style or iterable Dataset, a DataLoader, or inputs and targets as two arrays or tensors. A sample or a
batch is `(inputs, targets)`, or a dictionary as Hugging Face's data sets have it. Loaders are read in the order of their
data set, and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from sharpcli.arguments import check_arguments
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError, SettingsError, closest
from sharpcli.host_memory import require_memory
from sharpcli.losses import IGNORED
from sharpcli.user_code import errors_named, imported, public_callables

_BATCH = 64
_BY_NAME = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation", "eval")}
_INPUTS = ("pixel_values", "input_ids", "inputs", "input", "x", "images", "image", "features", "data")
_TARGETS = ("labels", "label", "targets", "target", "y", "classes")
_PLAIN = {"attention_mask": 1, "token_type_ids": 0}  # Further entries that say nothing where all numbers are this one.
_SHAPES = "Let a batch be (inputs, targets), or a dictionary with pixel_values, input_ids or inputs, and labels or targets."


def load_from_code(
    spec: str, options: Mapping[str, object], transform: Transform | None = None, ignore_index: int = IGNORED
) -> DataSplits:
    """Import what a spec names, and return its data as tensors.

    Args:
        spec: `file.py:name` or `pkg.mod:name`.
        options: Keyword arguments of the function.
        transform: What is done to images of bytes (N, C, H, W).
        ignore_index: An integer target that is ignored, in addition to -100.

    Raises:
        InputError: The code cannot be imported or fails, or answers with no data.
        SettingsError: The function does not take one of the options.
    """
    with imported(spec) as (module, attribute):
        if attribute is None:
            known = public_callables(module)
            hint = closest(spec.rpartition(":")[2], known) if known else "Write a function that returns the data."
            raise InputError(f"'{spec}' names nothing.", hint)
        answer = attribute
        if callable(attribute):
            check_arguments(attribute, options, reserved=())
            with errors_named(spec, "called"):
                answer = attribute(**options)
        elif options:
            raise SettingsError(f"'{spec}' is no function, so it takes no --data-arg.", "Leave --data-arg out.")
        with errors_named(spec, "read"):
            parts = {name: _Read.of(part, spec, name) for name, part in _parts(answer).items()}
    splits = {name: read.split(spec, name, transform, ignore_index) for name, read in parts.items()}
    words = [transform.words if transform else f"as {spec} gives them", *dict.fromkeys(read.remark for read in parts.values())]
    text = transform.text if transform else ""
    classes = _num_classes(list(splits.values()))
    return DataSplits(spec, splits["train"], splits.get("test"), classes, ", ".join(filter(None, words)), text)


def _parts(answer: Any) -> dict[str, Any]:
    """Return the training data under "train", and the test data, if there are some, under "test"."""
    if hasattr(answer, "train_dataloader"):
        return _of_module(answer)
    if isinstance(answer, Mapping):
        by_name = {name: next((answer[key] for key in keys if key in answer), None) for name, keys in _BY_NAME.items()}
        if by_name["train"] is not None:
            return {name: part for name, part in by_name.items() if part is not None}
        arrays = {name: (answer.get(f"x_{name}"), answer.get(f"y_{name}")) for name in ("train", "test")}
        if arrays["train"][0] is not None:
            return {name: pair for name, pair in arrays.items() if pair[0] is not None}
    if isinstance(answer, tuple) and len(answer) == 2 and not all(_is_array(part) for part in answer):
        return {"train": answer[0], "test": answer[1]}
    return {"train": answer}


def _of_module(module: Any) -> dict[str, Any]:
    for prepare, arguments in (("prepare_data", ()), ("setup", ("fit",))):
        if callable(getattr(module, prepare, None)):
            getattr(module, prepare)(*arguments)
    parts = {"train": module.train_dataloader()}
    for name in ("val_dataloader", "test_dataloader"):
        made = getattr(module, name, None)
        if "test" not in parts and callable(made):
            loader = made()
            loader = loader[0] if isinstance(loader, list | tuple) and loader else loader
            parts |= {} if loader is None or loader == [] else {"test": loader}
    return parts


@dataclass(frozen=True, eq=False)
class _Read:
    """The tensors of one part, and what was done to make them, in words."""

    inputs: Tensor
    targets: Tensor
    remark: str

    @staticmethod
    def of(part: Any, spec: str, name: str) -> _Read:
        """Read a part from its first sample to its last."""
        inputs: list[Tensor] = []
        targets: list[Tensor] = []
        texts = False
        for number, batch in enumerate(_batches(part, spec)):
            some, wanted, texts = _pair(batch, spec)
            if number == 0 and not _is_array_pair(part) and len(some):
                count = len(getattr(part, "dataset", part)) if hasattr(part, "__len__") else 0
                require_memory(2 * count * some[0].nbytes, f"The {count} samples of '{spec}'", "Return fewer samples.")
            inputs.append(some)
            targets.append(wanted)
        if not inputs:
            raise InputError(f"The {name} data of '{spec}' are empty.", "Give every split a sample.")
        shapes = {tuple(some.shape[1:]) for some in inputs}
        if len(shapes) > 1:
            one, other = sorted(shapes)[:2]
            raise InputError(
                f"Samples of '{spec}' have different shapes, {one} and {other}.", "Let all samples have one shape; pad texts."
            )
        read = _Read(torch.cat(inputs), torch.cat(targets), "")
        return read.shifted() if texts else read

    def shifted(self) -> _Read:
        """Return each next token as the target if the targets are the tokens themselves, else the same.

        Causal language models of Hugging Face take labels at the places of their tokens, and shift them by themselves.
        """
        same = self.targets.shape == self.inputs.shape and self.inputs.ndim == 2
        if not same or not bool(((self.targets == self.inputs) | (self.targets == IGNORED)).all()):
            return self
        return _Read(self.inputs[:, :-1], self.targets[:, 1:], "targets are the next tokens")

    def split(self, spec: str, name: str, transform: Transform | None, ignore_index: int) -> Split:
        """Return the checked split."""
        inputs = self.inputs
        if inputs.dtype == torch.uint8 and transform is not None:
            inputs = transform(inputs)
        elif transform is not None:
            raise InputError(f"'{spec}' has no images of bytes that --transform could change.", "Leave --transform out.")
        elif inputs.dtype in (torch.uint8, torch.bool):
            raise InputError(
                f"The inputs of '{spec}' are {inputs.dtype}, and what the model takes is not known.",
                "Return them as floats at the scale of training, or name a --transform.",
            )
        elif inputs.is_floating_point():
            inputs = inputs if inputs.dtype == torch.float64 else inputs.float()
        else:
            inputs = inputs.long()
        if len(inputs) != len(self.targets):
            raise InputError(
                f"The {name} data of '{spec}' have {len(inputs)} inputs and {len(self.targets)} targets.",
                "Give every input one target.",
            )
        return Split(inputs, _targets(self.targets, ignore_index))


def _batches(part: Any, spec: str) -> Iterator[Any]:
    """Give the batches of a part in the order of its samples."""
    if _is_array_pair(part):
        yield part
        return
    if isinstance(part, DataLoader):
        loader: Iterable[Any] = part
        if not isinstance(part.dataset, IterableDataset):
            loader = DataLoader(part.dataset, part.batch_size or _BATCH, collate_fn=part.collate_fn)
    elif _is_data_set(part):
        loader = DataLoader(part, _BATCH)
    elif isinstance(part, Iterable) and not isinstance(part, Mapping | str):
        loader = part  # Batches.
    else:
        raise InputError(f"'{spec}' answers with {_described(part)}, which is no data.", _SHAPES)
    again = None if isinstance(loader, Iterator) else next(iter(loader), None)  # An iterator is read once only.
    for number, batch in enumerate(loader):
        if number == 0 and again is not None and not _same(_tensors(again), _tensors(batch)):
            raise InputError(
                f"'{spec}' gives other numbers for the same samples each time they are read.",
                "Take augmentation and shuffling out: an analysis is over fixed samples.",
            )
        yield batch


def _is_data_set(part: Any) -> bool:
    """Tell whether a part gives samples, and not batches."""
    if isinstance(part, IterableDataset):
        return True
    if isinstance(part, list):  # Of samples, if the target of one is a number.
        return bool(part) and isinstance(part[0], tuple | list) and not all(map(_is_array, part[0]))
    return hasattr(part, "__getitem__") and hasattr(part, "__len__") and not isinstance(part, tuple | Mapping | str)


def _pair(batch: Any, spec: str) -> tuple[Tensor, Tensor, bool]:
    """Return inputs and targets of a batch, and whether the inputs are called tokens."""
    if isinstance(batch, Mapping):
        return _of_mapping(batch, spec)
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(_is_array(part) for part in batch):
        return _tensor(batch[0]), _tensor(batch[1]), False
    raise InputError(f"A batch of '{spec}' is {_described(batch)}.", _SHAPES)


def _of_mapping(batch: Mapping[str, Any], spec: str) -> tuple[Tensor, Tensor, bool]:
    entries = {name: _tensor(value) for name, value in batch.items() if _is_array(value)}
    names = [next((name for name in known if name in entries), None) for known in (_INPUTS, _TARGETS)]
    inputs_name, targets_name = names
    tokens = inputs_name == "input_ids"
    if inputs_name is None or (targets_name is None and not tokens):
        raise InputError(f"A batch of '{spec}' is {_described(batch)}.", _SHAPES)
    for name in entries.keys() - set(names):
        if name not in _PLAIN or bool((entries[name] != _PLAIN[name]).any()):
            raise InputError(
                f"A batch of '{spec}' has a further input, '{name}', and models are given one.",
                "Leave it out of the batch, or let the model take it from its one input.",
            )
    return entries[inputs_name], entries[targets_name or inputs_name], tokens


def _targets(targets: Tensor, ignore_index: int) -> Tensor:
    if targets.is_floating_point():
        values = targets if targets.dtype == torch.float64 else targets.float()
        return values.reshape(len(values), -1)
    return targets.long().masked_fill(targets == ignore_index, IGNORED)


def _num_classes(splits: Sequence[Split]) -> int:
    if splits[0].targets.is_floating_point():
        return splits[0].targets.shape[1]
    return max(int(split.targets.max()) for split in splits) + 1


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _is_array_pair(part: Any) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2 and all(_is_array(one) for one in part)


def _tensor(value: Any) -> Tensor:
    return value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))


def _tensors(batch: Any) -> list[Tensor]:
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else [batch]
    return [_tensor(value) for value in values if _is_array(value)]


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def _described(value: Any) -> str:
    """Return what a value is, in words: types and shapes."""
    if _is_array(value):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "a dictionary of " + (", ".join(f"{name}: {_described(part)}" for name, part in value.items()) or "nothing")
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of " + (", ".join(_described(part) for part in value[:5]) or "nothing")
    return f"a {type(value).__name__}"
