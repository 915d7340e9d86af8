"""Data from the user's code, `file.py:name` or `pkg.mod:name`: datasets, loaders, arrays or a data module, as tensors.

The name is a function without required arguments, or the data themselves. They are one of

- `{"train": part, "test": part}`, where "val" or "validation" stand for "test", or `(train, test)`;
- an object with `train_dataloader` and perhaps `val_dataloader` or, without it, `test_dataloader`, as a data module of
  Lightning has;
- one part, which is then the training data;

and a part is a map-style or iterable Dataset, a DataLoader, or one batch of arrays or tensors with all samples. For what a
batch can be see `datasets.batch_forms`. Loaders are read in the order of their data set, and nothing is dropped. A map-style
data set that does not fit into memory is read again whenever its samples are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from sharpcli.arguments import check_arguments
from sharpcli.datasets.batch_forms import SHAPES, Batch, batch_of, described, is_array, is_batch, is_sample, same_batch
from sharpcli.datasets.data_set_source import DataSetSource
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError, SettingsError, closest
from sharpcli.host_memory import require_memory
from sharpcli.inputs import Inputs, joined, main_tensor, mapped, num_samples, sample_shapes, sample_size, tensors_in
from sharpcli.losses import IGNORED
from sharpcli.memory import MemoryPlan
from sharpcli.user_code import errors_named, imported, public_callables

_BATCH = 64
_BY_NAME = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation", "eval")}
_DEFAULTS = {"attention_mask": 1, "token_type_ids": 0}  # A model without these inputs takes this number everywhere.


def load_from_code(
    spec: str,
    options: Mapping[str, object],
    transform: Transform | None = None,
    ignore_index: int = IGNORED,
    *,
    unlabelled: bool = False,
) -> DataSplits:
    """Import what a spec names, and return its data.

    Args:
        spec: `file.py:name` or `pkg.mod:name`.
        options: Keyword arguments of the function.
        transform: What is done to images of bytes (N, C, H, W).
        ignore_index: An integer target that is ignored, in addition to -100.
        unlabelled: Whether inputs without targets are data, for a loss that needs none.

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
        return splits_of(answer, spec, transform, ignore_index, unlabelled=unlabelled)


def splits_of(
    answer: Any, spec: str, transform: Transform | None = None, ignore_index: int = IGNORED, *, unlabelled: bool = False
) -> DataSplits:
    """Return the splits of data that code gives.

    Args:
        answer: In one of the forms above.
        spec: Of the code, for messages.
        transform: What is done to images of bytes (N, C, H, W).
        ignore_index: An integer target that is ignored, in addition to -100.
        unlabelled: Whether inputs without targets are data; their targets are zeros (N, 1).

    Raises:
        InputError: There are no data, or they cannot be read.
    """
    with errors_named(spec, "read"):
        given = _parts(answer)
        if unlabelled:
            given = {name: (part, torch.zeros(len(part), 1)) if is_array(part) else part for name, part in given.items()}
        parts = {name: _Part.of(part, spec, name) for name, part in given.items()}
    needless = frozenset(_DEFAULTS) - frozenset().union(*(part.needed for part in parts.values()))
    if len({part.is_next_token for part in parts.values()}) > 1:
        raise InputError(f"In '{spec}' the targets of one split only are the tokens.", "Give both splits targets of one kind.")
    numbers = _Numbers(spec, needless, parts["train"].is_next_token, transform)
    splits = {name: part.split(numbers, ignore_index) for name, part in parts.items()}
    words = [transform.words if transform else f"as {spec} gives them", numbers.remark]
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
        if "test" not in parts and callable(made):
            loader = made()
            loader = loader[0] if isinstance(loader, list | tuple) and loader else loader
            parts |= {} if loader is None or loader == [] else {"test": loader}
    return parts


@dataclass(frozen=True)
class _Numbers:
    """From the inputs of a batch to the numbers that the model takes.

    Attributes:
        spec: Of the code, for messages.
        needless: Names of inputs that hold the number which a model takes without them.
        next_token: Whether the targets are the next tokens, so that the last token is no input.
        transform: What is done to images of bytes.
    """

    spec: str
    needless: frozenset[str]
    next_token: bool
    transform: Transform | None

    @property
    def remark(self) -> str:
        """What is done beside the transform, in words."""
        return "targets are the next tokens" if self.next_token else ""

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return the numbers.

        Raises:
            InputError: What the model takes is not known.
        """
        if isinstance(inputs, dict):
            left = {name: part for name, part in inputs.items() if name not in self.needless}
            inputs = next(iter(left.values())) if len(left) == 1 else left
        if self.next_token:
            length = main_tensor(inputs).shape
            inputs = mapped(inputs, lambda part: part[:, :-1] if part.shape == length else part)
        main = main_tensor(inputs)
        if self.transform is not None and (main.dtype != torch.uint8 or not isinstance(inputs, Tensor)):
            raise InputError(f"'{self.spec}' has no images of bytes that --transform could change.", "Leave --transform out.")
        numbers = self.transform(main) if self.transform is not None else mapped(inputs, self._number)
        if main.dtype == torch.bool and self.transform is None:
            raise self._unknown(main)
        return numbers

    def _number(self, part: Tensor) -> Tensor:
        if part.dtype == torch.uint8:
            raise self._unknown(part)
        if part.dtype == torch.bool:  # A mask.
            return part
        if part.is_floating_point():
            return part if part.dtype == torch.float64 else part.float()
        return part.long()

    def _unknown(self, part: Tensor) -> InputError:
        return InputError(
            f"The inputs of '{self.spec}' are {part.dtype}, and what the model takes is not known.",
            "Return them as floats at the scale of training, or name a --transform.",
        )


@dataclass(eq=False)
class _Part:
    """One part of the data, as its code gives it.

    Attributes:
        spec: Of the code.
        name: "train" or "test".
        batches: Inputs of each batch; none where they do not fit into memory.
        targets: Targets of each batch.
        needed: Names of inputs that a model cannot do without.
        is_next_token: Whether the targets are the tokens themselves, so that a causal language model predicts the next one.
    """

    spec: str
    name: str
    batches: list[Inputs] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)
    is_next_token: bool = False
    _loader: Any = None

    @staticmethod
    def of(part: Any, spec: str, name: str) -> _Part:
        """Read a part from its first sample to its last."""
        read, texts, num_bytes, shapes = _Part(spec, name), True, 0, set()
        for batch in _batches(part, spec):
            if not read.targets and not is_batch(part):
                read._plan(part, batch)
            texts = texts and batch.texts and _is_of_tokens(batch)
            read.needed |= _needed(batch.inputs)
            read.targets.append(batch.targets)
            shapes.add(sample_shapes(batch.inputs))
            if read._loader is None:
                read.batches.append(batch.inputs)
                num_bytes += sum(tensor.nbytes for tensor in tensors_in(batch.inputs))
                if len(read.batches) > 1:  # To join them takes as much again. A stream may have no end.
                    require_memory(num_bytes, f"The samples of '{spec}'", "Return fewer samples, or a data set with a length.")
        if not read.targets:
            raise InputError(f"The {name} data of '{spec}' are empty.", "Give every split a sample.")
        if len(shapes) > 1:
            one, other = sorted(" and ".join(str(shape) for _, shape in shape_of_all) for shape_of_all in shapes)[:2]
            raise InputError(
                f"Samples of '{spec}' have different shapes, {one} and {other}.", "Let all samples have one shape; pad texts."
            )
        read.is_next_token = texts
        return read

    def _plan(self, part: Any, batch: Batch) -> None:
        """Read inputs again later if they do not fit into memory, and the part gives samples by their positions."""
        data_set = part.dataset if isinstance(part, DataLoader) else part  # A Subset has such an attribute, too.
        if not hasattr(part, "__len__") or not hasattr(data_set, "__len__"):
            return
        needed = len(data_set) * sample_size(batch.inputs)
        if MemoryPlan(torch.device("cpu")).holds_data(needed):
            return
        if _is_map_style(data_set):
            self._loader = part if isinstance(part, DataLoader) else DataLoader(data_set)
        else:
            require_memory(2 * needed, f"The {len(data_set)} samples of '{self.spec}'", "Return fewer samples.")

    def split(self, numbers: _Numbers, ignore_index: int) -> Split:
        """Return the checked split."""
        targets = torch.cat(self.targets)
        targets = _targets(targets[:, 1:] if numbers.next_token else targets, ignore_index)
        if self._loader is not None:
            return Split(DataSetSource(self._loader.dataset, self._loader.collate_fn, self.spec, numbers), targets)
        inputs = numbers(joined(self.batches))
        if num_samples(inputs) != len(targets):
            raise InputError(
                f"The {self.name} data of '{self.spec}' have {num_samples(inputs)} inputs and {len(targets)} targets.",
                "Give every input one target.",
            )
        return Split(inputs, targets)


def _is_of_tokens(batch: Batch) -> bool:
    """Return whether the targets are the tokens themselves: causal models of Hugging Face shift them by themselves."""
    tokens = main_tensor(batch.inputs)
    same = batch.targets.shape == tokens.shape and tokens.ndim == 2
    return same and bool(((batch.targets == tokens) | (batch.targets == IGNORED)).all())


def _needed(inputs: Inputs) -> set[str]:
    """Return the names of inputs that hold another number than a model takes without them."""
    if not isinstance(inputs, dict):
        return set()
    return {name for name, part in inputs.items() if name not in _DEFAULTS or bool((part != _DEFAULTS[name]).any())}


def _batches(part: Any, spec: str) -> Iterator[Batch]:
    """Give the batches of a part in the order of its samples."""
    if is_batch(part):
        yield batch_of(part, spec)
        return
    if isinstance(part, DataLoader):
        loader: Iterable[Any] = part
        if not isinstance(part.dataset, IterableDataset):
            loader = DataLoader(part.dataset, part.batch_size or _BATCH, collate_fn=part.collate_fn)
    elif _is_data_set(part):
        loader = DataLoader(part, _BATCH)
    elif isinstance(part, Iterable) and not isinstance(part, Mapping | str) and not is_array(part):
        loader = part  # Batches.
    else:
        raise InputError(f"'{spec}' answers with {described(part)}, which is no data.", SHAPES)
    again = None if isinstance(loader, Iterator) else next(iter(loader), None)  # An iterator is read once only.
    for number, value in enumerate(loader):
        batch = batch_of(value, spec)
        if number == 0 and again is not None and not same_batch(batch_of(again, spec), batch):
            raise InputError(
                f"'{spec}' gives other numbers for the same samples each time they are read.",
                "Take augmentation and shuffling out: an analysis is over fixed samples.",
            )
        yield batch


def _is_data_set(part: Any) -> bool:
    """Return whether a part gives samples, and not batches."""
    if isinstance(part, IterableDataset):
        return True
    return is_sample(part[0]) if isinstance(part, list) and part else _is_map_style(part)


def _is_map_style(part: Any) -> bool:
    indexed = hasattr(part, "__getitem__") and hasattr(part, "__len__") and not is_array(part)
    return indexed and not isinstance(part, IterableDataset | tuple | list | Mapping | str)


def _targets(targets: Tensor, ignore_index: int) -> Tensor:
    if targets.is_floating_point():
        values = targets if targets.dtype == torch.float64 else targets.float()
        return values.reshape(len(values), -1)
    return targets.long().masked_fill(targets == ignore_index, IGNORED)


def _num_classes(splits: Sequence[Split]) -> int:
    if splits[0].targets.is_floating_point():
        return splits[0].targets.shape[1]
    return max(int(split.targets.max()) for split in splits) + 1
