"""Samples in chunks: in order, or in groups drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli.inputs import Index, Inputs
from sharpcli.processes import Processes

Read = Callable[[Index], tuple[Inputs, Tensor]]


class Chunk(NamedTuple):
    """Samples that are on the device at the same time; `number` is the position of the chunk in a pass, from 0."""

    number: int
    inputs: Inputs
    targets: Tensor


class Group(NamedTuple):
    """Samples whose share of a sum is of interest, in chunks; `total_weight` is the sum of the weights of their loss terms.

    With several processes, `chunks` has only the samples of this process, perhaps none.
    """

    total_weight: float
    chunks: Iterator[Chunk]


def in_order(read: Read, first: int, sizes: list[int], *, ahead: bool) -> Iterator[Chunk]:
    """Yield samples once, in order, in chunks of given sizes.

    Args:
        read: Returns inputs and targets of some samples, on the device.
        first: Position of the first sample.
        sizes: Number of samples in each chunk.
        ahead: Whether a thread reads the next chunk while the caller uses the current one.
    """
    places = [slice(start, end) for start, end in pairwise(accumulate(sizes, initial=first))]
    yield from _read_ahead(read, places) if ahead and places else _read(read, places)


def own_share(count: int, chunk_size: int, processes: Processes, blocks: list[int] | None = None) -> tuple[int, list[int]]:
    """Return the position of the first sample of this process, and the number of samples in each of its chunks.

    Args:
        count: N, the number of samples of all processes.
        chunk_size: Most samples in a chunk.
        processes: The processes that share the samples.
        blocks: Sizes of fixed blocks, if the chunks must be these; they do not depend on the number of processes.
    """
    if blocks is not None:
        low, high = processes.bounds(len(blocks))
        return sum(blocks[:low]), blocks[low:high]
    low, high = processes.bounds(count)
    return low, [min(chunk_size, high - start) for start in range(low, high, chunk_size)]


def each_by_itself(
    read: Read, targets: Tensor, sizes: list[int], weight: Callable[[Tensor], float], processes: Processes
) -> Iterator[Group]:
    """Make every block of samples a group; a process reads only the blocks of its share.

    Args:
        read: Returns inputs and targets of some samples, on the device.
        targets: All targets.
        sizes: Number of samples in each block.
        weight: Returns the sum of the weights of the loss terms of targets.
        processes: The processes that share the blocks.
    """
    low, high = processes.bounds(len(sizes))
    for number, (start, end) in enumerate(pairwise(accumulate(sizes, initial=0))):
        own = [slice(start, end)] if low <= number < high else []
        yield Group(weight(targets[start:end]), _read(read, own))


def at_random(
    read: Read,
    targets: Tensor,
    *,
    groups: int,
    chunk_size: int,
    random: torch.Generator,
    weights: Callable[[Iterable[Tensor]], list[float]],
    processes: Processes,
) -> Iterator[Group]:
    """Yield all samples once, in random groups of sizes as equal as possible; random because data may be sorted by class.

    The groups do not depend on the number of processes; a process reads only its share of each.

    Args:
        read: Returns inputs and targets of some samples, on the device.
        targets: All targets.
        groups: Number of groups; N if larger.
        chunk_size: Most samples in a chunk.
        random: Generator of the permutation.
        weights: Returns, for several groups of targets, the sum of the weights of their loss terms.
        processes: The processes that share the samples of each group.
    """
    order = torch.randperm(len(targets), generator=random).to(targets.device)
    parts = torch.tensor_split(order, min(groups, len(targets)))
    for weight, chosen in zip(weights(targets[chosen] for chosen in parts), parts, strict=True):
        low, high = processes.bounds(len(chosen))
        yield Group(weight, _read(read, torch.split(chosen[low:high], chunk_size) if low < high else ()))


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
