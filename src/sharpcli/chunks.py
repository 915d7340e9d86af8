"""Samples a few at a time: in order, or in groups drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Chunk(NamedTuple):
    """Samples that are on the device at once; `number` counts the chunks of a pass."""

    number: int
    inputs: Tensor
    targets: Tensor


class Group(NamedTuple):
    """Samples whose share of a sum is of interest, in chunks; `num_terms` counts their loss terms."""

    num_terms: int
    chunks: Iterator[Chunk]


def in_order(inputs: Tensor, targets: Tensor, sizes: list[int]) -> Iterator[Chunk]:
    """Go once through samples, in chunks of these sizes."""
    pairs = zip(torch.split(inputs, sizes), torch.split(targets, sizes), strict=True)
    for number, (some, wanted) in enumerate(pairs):
        yield Chunk(number, some, wanted)


def each_by_itself(chunks: Iterator[Chunk], count: Callable[[Tensor], int]) -> Iterator[Group]:
    """Make every chunk a group; `count` counts the loss terms of targets."""
    for chunk in chunks:
        yield Group(count(chunk.targets), iter([chunk]))


def at_random(
    inputs: Tensor, targets: Tensor, *, groups: int, chunk_size: int, random: torch.Generator, count: Callable[[Tensor], int]
) -> Iterator[Group]:
    """Go once through samples in groups drawn at random, of sizes as equal as possible, since data may be sorted by class."""
    order = torch.randperm(len(inputs), generator=random).to(inputs.device)
    for chosen in torch.tensor_split(order, min(groups, len(inputs))):
        parts = enumerate(torch.split(chosen, chunk_size))
        yield Group(count(targets[chosen]), (Chunk(number, inputs[part], targets[part]) for number, part in parts))
