"""Samples a few at a time: in order, or in groups drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli.inputs import Index, Inputs

Read = Callable[[Index], tuple[Inputs, Tensor]]


class Chunk(NamedTuple):
    """Samples that are on the device at once; `number` counts the chunks of a pass."""

    number: int
    inputs: Inputs
    targets: Tensor


class Group(NamedTuple):
    """Samples whose share of a sum is of interest, in chunks; `num_terms` counts their loss terms."""

    num_terms: int
    chunks: Iterator[Chunk]


def in_order(read: Read, sizes: list[int], *, ahead: bool) -> Iterator[Chunk]:
    """Go once through samples, in chunks of these sizes.

    Args:
        read: Returns inputs and targets of some samples, on the device.
        sizes: Of the chunks.
        ahead: Whether a thread reads the next chunk while the caller works on this one.
    """
    places = [slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0))]
    yield from _read_ahead(read, places) if ahead else _read(read, places)


def each_by_itself(chunks: Iterator[Chunk], count: Callable[[Tensor], int]) -> Iterator[Group]:
    """Make every chunk a group; `count` counts the loss terms of targets."""
    for chunk in chunks:
        yield Group(count(chunk.targets), iter([chunk]))


def at_random(
    read: Read, targets: Tensor, *, groups: int, chunk_size: int, random: torch.Generator, count: Callable[[Tensor], int]
) -> Iterator[Group]:
    """Go once through samples in groups drawn at random, of sizes as equal as possible, since data may be sorted by class."""
    order = torch.randperm(len(targets), generator=random).to(targets.device)
    for chosen in torch.tensor_split(order, min(groups, len(targets))):
        yield Group(count(targets[chosen]), _read(read, torch.split(chosen, chunk_size)))


def _read(read: Read, places: Iterable[Index]) -> Iterator[Chunk]:
    for number, place in enumerate(places):
        yield Chunk(number, *read(place))


def _read_ahead(read: Read, places: list[slice]) -> Iterator[Chunk]:
    with ThreadPoolExecutor(1, "read") as thread:
        coming = thread.submit(read, places[0])
        for number, following in enumerate([*places[1:], None]):
            inputs, targets = coming.result()
            if following is not None:
                coming = thread.submit(read, following)
            yield Chunk(number, inputs, targets)
            del inputs, targets
