"""Data from the user's code, `file.py:name` or `pkg.mod:name`: datasets, loaders, arrays or a data module, as tensors.

The name is that of a function or of the data. Options are keyword arguments of the function. The data are one of

- `{"train": part, "test": part}`, where "val", "valid", "validation" or "eval" can replace "test", or `(train, test)`;
- `{"x_train": inputs, "y_train": targets}`, with "x_test" and "y_test" if there are test data;
- an object with `train_dataloader` and optionally `val_dataloader` (preferred) or `test_dataloader` for the test data, such
  as a data module of Lightning; `prepare_data()` and `setup("fit")` are called first if they exist;
- one part, which is used as the training data.

A part is a map-style or iterable Dataset, a DataLoader, an iterable of batches, or one batch of arrays or tensors with all
samples. `datasets.batch_forms` describes the forms of a batch. A map-style data set is read in its own order without
dropping samples, also if a DataLoader shuffles it. If it does not fit into memory, its samples are read again at each use.
Texts of different lengths, `input_ids` with an `attention_mask`, are padded at their end to the length of the longest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sharpcli.arguments import check_arguments
from sharpcli.datasets.batch_forms import is_array, is_batch
from sharpcli.datasets.data_part import DEFAULTS, Numbers, Part
from sharpcli.datasets.padding import Padding
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError, SettingsError, closest
from sharpcli.inputs import MASK
from sharpcli.losses import IGNORED
from sharpcli.user_code import errors_named, imported, public_callables

_BY_NAME = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation", "eval")}


def load_from_code(
    spec: str,
    options: Mapping[str, object],
    transform: Transform | None = None,
    ignore_index: int = IGNORED,
    *,
    unlabelled: bool = False,
) -> DataSplits:
    """Import the code that a spec names, and return its data.

    Args:
        spec: `file.py:name` or `pkg.mod:name`.
        options: Keyword arguments of the function.
        transform: Maps images (N, C, H, W), uint8, to the inputs of the model.
        ignore_index: An integer target that is ignored, in addition to -100.
        unlabelled: Whether arrays of inputs without targets are accepted, for a loss that needs no targets.

    Raises:
        InputError: The code cannot be imported or fails, or its result is not data that can be read.
        SettingsError: The function does not accept one of the options, or options are given without a function.
    """
    with imported(spec) as (module, attribute):
        if attribute is None:
            known = public_callables(module)
            hint = closest(spec.rpartition(":")[2], known) if known else "Write a function that returns the data."
            raise InputError(f"The module of '{spec}' has no such name.", hint)
        answer = attribute
        if callable(attribute):
            check_arguments(attribute, options, reserved=())
            with errors_named(spec, "called"):
                answer = attribute(**options)
        elif options:
            raise SettingsError(f"'{spec}' is not a function, so --data-arg cannot be used.", "Remove --data-arg.")
        return splits_of(answer, spec, transform, ignore_index, unlabelled=unlabelled)


def splits_of(
    answer: Any, spec: str, transform: Transform | None = None, ignore_index: int = IGNORED, *, unlabelled: bool = False
) -> DataSplits:
    """Return the splits of data that the user's code returns.

    Args:
        answer: The data, in one of the forms in the docstring of this module.
        spec: The spec of the code, for messages.
        transform: Maps images (N, C, H, W), uint8, to the inputs of the model.
        ignore_index: An integer target that is ignored, in addition to -100.
        unlabelled: Whether arrays of inputs without targets are accepted; their targets are then zeros (N, 1).

    Raises:
        InputError: There are no data, or the data cannot be read.
    """
    with errors_named(spec, "read"):
        given = _parts(answer)
        if unlabelled:
            given = {name: (part, torch.zeros(len(part), 1)) if is_array(part) else part for name, part in given.items()}
        parts = {name: Part.of(part, spec, name) for name, part in given.items()}
    padding = _padding(list(parts.values()))
    needless = frozenset(DEFAULTS) - frozenset().union(*(part.needed for part in parts.values()))
    if padding is not None:
        needless -= {MASK}
    if len({part.is_next_token for part in parts.values()}) > 1:
        message = f"In '{spec}' the targets equal the input tokens in only one of the two splits."
        raise InputError(message, "Use the same kind of targets in both splits.")
    numbers = Numbers(spec, needless, parts["train"].is_next_token, transform, padding)
    splits = {name: part.split(numbers, ignore_index) for name, part in parts.items()}
    words = [transform.words if transform else f"as {spec} gives them", numbers.remark]
    text = transform.text if transform else ""
    classes = _num_classes(list(splits.values()))
    return DataSplits(spec, splits["train"], splits.get("test"), classes, ", ".join(filter(None, words)), text)


def _padding(parts: Sequence[Part]) -> Padding | None:
    """Return the padding for texts of different lengths; None if all texts have one length, or if there are no texts."""
    first, *others = [part.padding for part in parts]
    for other in others:
        first = first | other if first and other else None
    if first is None or len(first.lengths) == 1:
        return None
    first.require_possible(parts[0].spec)
    return first


def _parts(answer: Any) -> dict[str, Any]:
    """Return the training data under "train", and the test data, if given, under "test"."""
    if hasattr(answer, "train_dataloader"):
        return _of_module(answer)
    if isinstance(answer, Mapping):
        by_name = {name: next((answer[key] for key in keys if key in answer), None) for name, keys in _BY_NAME.items()}
        if by_name["train"] is not None:
            return {name: part for name, part in by_name.items() if part is not None}
        arrays = {name: (answer.get(f"x_{name}"), answer.get(f"y_{name}")) for name in ("train", "test")}
        if arrays["train"][0] is not None:
            return {name: pair for name, pair in arrays.items() if pair[0] is not None}
    if isinstance(answer, tuple) and len(answer) == 2 and not is_batch(answer):
        return {"train": answer[0], "test": answer[1]}
    return {"train": answer}


def _of_module(module: Any) -> dict[str, Any]:
    for prepare, arguments in (("prepare_data", ()), ("setup", ("fit",))):
        if callable(getattr(module, prepare, None)):
            getattr(module, prepare)(*arguments)
    parts = {"train": module.train_dataloader()}
    for name in ("val_dataloader", "test_dataloader"):
        made = getattr(module, name, None)
        if "test" not in parts and callable(made) and not _is_placeholder(made):
            loader = made()
            loader = loader[0] if isinstance(loader, list | tuple) and loader else loader
            parts |= {} if loader is None or loader == [] else {"test": loader}
    return parts


def _is_placeholder(method: Any) -> bool:
    """Return whether a method is that of the base class of Lightning, which only raises an error."""
    return getattr(method, "__module__", "").partition(".")[0] in ("lightning", "pytorch_lightning")


def _num_classes(splits: Sequence[Split]) -> int:
    if splits[0].targets.is_floating_point():
        return splits[0].targets.shape[1]
    return max(int(split.targets.max()) for split in splits) + 1
