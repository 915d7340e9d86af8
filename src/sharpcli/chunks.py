"""Samples in chunks: in order, or in groups drawn at random."""

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
    """Samples that are on the device at the same time; `number` is the position of the chunk in a pass, from 0."""

    number: int
    inputs: Inputs
    targets: Tensor


class Group(NamedTuple):
    """Samples whose share of a sum is of interest, in chunks; `total_weight` is the sum of the weights of their loss terms."""

    total_weight: float
    chunks: Iterator[Chunk]


def in_order(read: Read, sizes: list[int], *, ahead: bool) -> Iterator[Chunk]:
    """Yield all samples once, in order, in chunks of given sizes.

    Args:
        read: Returns inputs and targets of some samples, on the device.
        sizes: Number of samples in each chunk.
        ahead: Whether a thread reads the next chunk while the caller uses the current one.
    """
    places = [slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0))]
    yield from _read_ahead(read, places) if ahead else _read(read, places)


def each_by_itself(chunks: Iterator[Chunk], weight: Callable[[Tensor], float]) -> Iterator[Group]:
    """Make every chunk a group; `weight` returns the sum of the weights of the loss terms of targets."""
    for chunk in chunks:
        yield Group(weight(chunk.targets), iter([chunk]))


def at_random(
    read: Read,
    targets: Tensor,
    *,
    groups: int,
    chunk_size: int,
    random: torch.Generator,
    weights: Callable[[Iterable[Tensor]], list[float]],
) -> Iterator[Group]:
    """Yield all samples once, in random groups of sizes as equal as possible; random because data may be sorted by class.

    Args:
        read: Returns inputs and targets of some samples, on the device.
        targets: All targets.
        groups: Number of groups; N if larger.
        chunk_size: Most samples in a chunk.
        random: Generator of the permutation.
        weights: Returns, for several groups of targets, the sum of the weights of their loss terms.
    """
    order = torch.randperm(len(targets), generator=random).to(targets.device)
    parts = torch.tensor_split(order, min(groups, len(targets)))
    for weight, chosen in zip(weights(targets[chosen] for chosen in parts), parts, strict=True):
        yield Group(weight, _read(read, torch.split(chosen, chunk_size)))


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
