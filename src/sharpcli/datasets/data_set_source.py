"""Inputs of a data set of the user that does not fit into memory: samples are read again whenever they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sharpcli.datasets.batch_forms import batch_of
from sharpcli.errors import InputError
from sharpcli.inputs import Inputs, InputSource, sample_shapes
from sharpcli.user_code import errors_named


class DataSetSource(InputSource):
    """The inputs of a data set that gives a sample by its position."""

    def __init__(
        self, data_set: Any, collate: Callable[[list[Any]], Any], spec: str, numbers: Callable[[Inputs], Inputs]
    ) -> None:
        """Name the samples; none is read.

        Args:
            data_set: With a length, and a sample at each position.
            collate: Makes a batch of some samples.
            spec: Of the code that gives the data set, for messages.
            numbers: From the inputs of a batch to what the model takes.
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
