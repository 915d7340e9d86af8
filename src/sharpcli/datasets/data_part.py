"""One part of the user's data, such as the training data: it is read batch by batch and converted to inputs of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from sharpcli.datasets.batch_forms import SHAPES, Batch, batch_of, described, is_array, is_batch, is_sample, same_batch
from sharpcli.datasets.data_set_source import DataSetSource
from sharpcli.datasets.padding import Padding, mask_of, shapes_but_length
from sharpcli.datasets.splits import Split
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError
from sharpcli.host_memory import require_memory
from sharpcli.inputs import MASK, Inputs, joined, main_tensor, mapped, num_samples, sample_size, tensors_in
from sharpcli.losses import IGNORED
from sharpcli.memory import MemoryPlan

_BATCH = 64
DEFAULTS = {MASK: 1, "token_type_ids": 0}  # The values that models use if these inputs are not given.


@dataclass(frozen=True)
class Numbers:
    """The conversion of the inputs of a batch to the inputs of the model.

    Attributes:
        spec: The spec of the user's code, for messages.
        needless: Names of inputs that are left out, because they contain only the value in `DEFAULTS`.
        next_token: Whether the targets are the next tokens; the last token is then not an input.
        transform: Maps images (N, C, H, W), uint8, to inputs; None if `--transform` is not given.
        padding: The padding of texts of different lengths; None if all have one length.
    """

    spec: str
    needless: frozenset[str]
    next_token: bool
    transform: Transform | None
    padding: Padding | None = None

    @property
    def remark(self) -> str:
        """The changes in addition to the transform, in words; "" if there are none."""
        words = [self.padding.words if self.padding else "", "targets are the next tokens" if self.next_token else ""]
        return ", ".join(filter(None, words))

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return the inputs of the model, with the same number of samples.

        Raises:
            InputError: Inputs are uint8, or the first input is bool, and no transform is given, so their scale is not known;
                or a transform is given and the inputs are not one uint8 tensor of images.
        """
        if self.padding is not None:
            inputs = self.padding.inputs(inputs)
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
class Part:
    """One part of the data, as the user's code returns it.

    Attributes:
        spec: The spec of the code.
        name: "train" or "test".
        batches: Inputs of each batch; empty if the inputs do not fit into memory.
        targets: Targets of each batch.
        needed: Names of inputs that the model needs; the others contain only their value in `DEFAULTS`.
        is_next_token: Whether the targets equal the input tokens; the target of each token is then the next token, as for
            causal language models.
        padding: The padding of the texts to one length; None if the samples are not texts with an attention mask.
        is_by_token: Whether each token has a target.
    """

    spec: str
    name: str
    batches: list[Inputs] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)
    is_next_token: bool = False
    padding: Padding | None = None
    is_by_token: bool = True
    _loader: Any = None

    @staticmethod
    def of(part: Any, spec: str, name: str) -> Part:
        """Read all samples of a part.

        Raises:
            InputError: The part is empty, cannot be read as batches, does not fit into memory, has samples of different
                shapes, or returns other values when it is read again.
        """
        read, texts, num_bytes, shapes = Part(spec, name), True, 0, set()
        for batch in _batches(part, spec):
            if not read.targets and not is_batch(part):
                read._plan(part, batch)
            texts = texts and batch.texts and _is_of_tokens(batch)
            read.needed |= _needed(batch.inputs)
            read.targets.append(batch.targets)
            read._see_padding(batch)
            shapes.add(shapes_but_length(batch.inputs))
            if read._loader is None:
                read.batches.append(batch.inputs)
                num_bytes += sum(tensor.nbytes for tensor in tensors_in(batch.inputs))
                if len(read.batches) > 1:  # Concatenation needs the same memory again. A stream may be endless.
                    require_memory(num_bytes, f"The samples of '{spec}'", "Return fewer samples, or a data set with a length.")
        if not read.targets:
            raise InputError(f"The {name} data of '{spec}' are empty.", "Give every split a sample.")
        if len(shapes) > 1:
            one, other = sorted(" and ".join(str(shape) for _, shape in shape_of_all) for shape_of_all in shapes)[:2]
            raise InputError(
                f"Samples of '{spec}' have different shapes, {one} and {other}.",
                "Let all samples have one shape; give texts an attention_mask.",
            )
        read.is_next_token = texts
        return read

    def _plan(self, part: Any, batch: Batch) -> None:
        """Plan to read the inputs again at each use, if they do not fit into memory and the data set is map-style."""
        data_set = part.dataset if isinstance(part, DataLoader) else part  # A Subset has an attribute `dataset`, too.
        if not hasattr(part, "__len__") or not hasattr(data_set, "__len__"):
            return
        needed = len(data_set) * sample_size(batch.inputs)
        if MemoryPlan(torch.device("cpu")).holds_data(needed):
            return
        if _is_map_style(data_set):
            self._loader = part if isinstance(part, DataLoader) else DataLoader(data_set)
        else:
            require_memory(2 * needed, f"The {len(data_set)} samples of '{self.spec}'", "Return fewer samples.")

    def _see_padding(self, batch: Batch) -> None:
        padding, mask = Padding.of(batch.inputs), mask_of(batch.inputs)
        self.padding = self.padding | padding if self.padding and padding else padding
        self.is_by_token = self.is_by_token and mask is not None and batch.targets.shape == mask.shape

    def _require_padded_targets(self, padding: Padding | None) -> None:
        """Refuse targets that cannot be padded with the texts."""
        if padding is None:
            return
        if self.is_by_token and any(part.is_floating_point() for part in self.targets):
            raise InputError(
                f"Texts of '{self.spec}' have different lengths and a floating-point target for each token, of which none can "
                "be ignored.",
                "Use texts of one length.",
            )
        if not self.is_by_token and len({part.shape[1:] for part in self.targets}) > 1:
            raise InputError(f"Targets of '{self.spec}' have different shapes.", "Let all targets have one shape.")

    def split(self, numbers: Numbers, ignore_index: int) -> Split:
        """Return the checked split.

        Raises:
            InputError: Inputs and targets differ in number, or cannot be converted or padded.
        """
        padded = numbers.padding if self.is_by_token else None
        self._require_padded_targets(numbers.padding)
        targets = torch.cat([padded.filled(part.long(), IGNORED) if padded else part for part in self.targets])
        targets = _targets(targets[:, 1:] if numbers.next_token else targets, ignore_index)
        if self._loader is not None:
            return Split(DataSetSource(self._loader.dataset, self._loader.collate_fn, self.spec, numbers), targets)
        padding = numbers.padding  # Applied before, since only tensors of one length can be joined.
        inputs = numbers(joined([padding.inputs(batch) if padding else batch for batch in self.batches]))
        if num_samples(inputs) != len(targets):
            raise InputError(
                f"The {self.name} data of '{self.spec}' have {num_samples(inputs)} inputs and {len(targets)} targets.",
                "Give every input one target.",
            )
        return Split(inputs, targets)


def _is_of_tokens(batch: Batch) -> bool:
    """Return whether each target is the token at its position, or -100; causal models of Hugging Face shift such targets."""
    tokens = main_tensor(batch.inputs)
    same = batch.targets.shape == tokens.shape and tokens.ndim == 2
    return same and bool(((batch.targets == tokens) | (batch.targets == IGNORED)).all())


def _needed(inputs: Inputs) -> set[str]:
    """Return the names of all inputs except those that contain only their value in `DEFAULTS`; none for unnamed inputs."""
    if not isinstance(inputs, dict):
        return set()
    return {name for name, part in inputs.items() if name not in DEFAULTS or bool((part != DEFAULTS[name]).any())}


def _batches(part: Any, spec: str) -> Iterator[Batch]:
    """Yield the batches of a part in the order of its samples."""
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
        raise InputError(f"'{spec}' returns {described(part)}, which cannot be read as data.", SHAPES)
    again = None if isinstance(loader, Iterator) else next(iter(loader), None)  # An iterator can be read only once.
    for number, value in enumerate(loader):
        batch = batch_of(value, spec)
        if number == 0 and again is not None and not same_batch(batch_of(again, spec), batch):
            raise InputError(
                f"'{spec}' gives other numbers for the same samples each time they are read.",
                "Take augmentation and shuffling out: an analysis is over fixed samples.",
            )
        yield batch


def _is_data_set(part: Any) -> bool:
    """Return whether a part returns single samples, not batches."""
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
