"""Inputs from a data set of the user that does not fit into memory: samples are read again at each use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sharpcli.datasets.batch_forms import batch_of
from sharpcli.errors import InputError
from sharpcli.inputs import Inputs, InputSource, sample_shapes
from sharpcli.user_code import errors_named


class DataSetSource(InputSource):
    """The inputs of a map-style data set, which returns the sample at a position."""

    def __init__(
        self, data_set: Any, collate: Callable[[list[Any]], Any], spec: str, numbers: Callable[[Inputs], Inputs]
    ) -> None:
        """Store the data set; no sample is read now.

        Args:
            data_set: Has `__len__`, and `__getitem__` for positions from 0.
            collate: Maps a list of samples to a batch.
            spec: The spec of the code that returns the data set, for messages.
            numbers: Maps the inputs of a batch to the inputs of the model.
        """
        self._data_set, self._collate, self._spec, self._numbers = data_set, collate, spec, numbers

    def __len__(self) -> int:
        """Return N."""
        return len(self._data_set)

    @cached_property
    def first(self) -> Inputs:
        """The first sample, (1, ...)."""
        return self.read([0])

    def read(self, positions: Sequence[int]) -> Inputs:
        """Read samples by their positions; see `InputSource.read`."""
        with errors_named(self._spec, "read"):
            batch = self._collate([self._data_set[position] for position in positions])
        inputs = self._numbers(batch_of(batch, self._spec).inputs)
        if positions != [0] and sample_shapes(inputs) != sample_shapes(self.first):
            raise InputError(f"Samples of '{self._spec}' have different shapes.", "Let all samples have one shape.")
        return inputs
