"""Shares of the samples: every sample belongs to exactly one process, and to the same group for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sharpcli.batchnorm import block_sizes
from sharpcli.chunks import Chunk, at_random, each_by_itself, in_order, own_share
from sharpcli.inputs import Index
from sharpcli.processes import SOLO, Processes, current

SHARES = [(1, 1), (10, 1), (10, 3), (2, 3), (7, 7), (1000, 6)]


def team(size: int) -> list[Processes]:
    return [Processes(rank, size) for rank in range(size)]


def read(index: Index) -> tuple[Tensor, Tensor]:
    numbers = torch.arange(1000)[index]
    return numbers, numbers


def seen(chunks: Iterator[Chunk]) -> list[int]:
    return [int(number) for chunk in chunks for number in chunk.targets]


def test_without_torchrun_there_is_one_process() -> None:
    assert current() is SOLO
    part = torch.ones(2)
    assert SOLO.sum(part, part) is part
    assert (SOLO.agreed(3), SOLO.least(4), SOLO.on("cuda:1")) == (3, 4, "cuda:1")
    assert Processes(0, 4).on("cuda:0") == "4 × cuda"


@pytest.mark.parametrize(("count", "size"), SHARES)
def test_each_sample_is_in_the_pass_of_one_process(count: int, size: int) -> None:
    passes = [in_order(read, *own_share(count, 4, one), ahead=False) for one in team(size)]
    shares = [seen(chunks) for chunks in passes]
    assert sum(shares, []) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("count", "size"), SHARES)
def test_fixed_blocks_are_never_divided(count: int, size: int) -> None:
    blocks = block_sizes(count, 3)
    passes = [list(in_order(read, *own_share(count, 3, one, blocks), ahead=False)) for one in team(size)]
    assert [len(chunk.targets) for chunks in passes for chunk in chunks] == blocks
    assert sum((seen(iter(chunks)) for chunks in passes), []) == list(range(count))


@pytest.mark.parametrize(("count", "size"), SHARES)
@pytest.mark.parametrize("groups", [1, 4, 2000])
def test_groups_do_not_depend_on_the_number_of_processes(count: int, size: int, groups: int) -> None:
    def divided(one: Processes) -> list[tuple[float, list[int]]]:
        made = at_random(
            read,
            torch.arange(count),
            groups=groups,
            chunk_size=3,
            random=torch.Generator().manual_seed(1),
            weights=lambda parts: [float(len(part)) for part in parts],
            processes=one,
        )
        return [(group.total_weight, seen(group.chunks)) for group in made]

    alone, parts = divided(SOLO), [divided(one) for one in team(size)]
    for number, (weight, members) in enumerate(alone):
        assert {part[number][0] for part in parts} == {weight}
        assert sum((part[number][1] for part in parts), []) == members


@pytest.mark.parametrize(("count", "size"), SHARES)
def test_a_block_is_a_group_of_one_process(count: int, size: int) -> None:
    def divided(one: Processes) -> list[list[int]]:
        return [seen(group.chunks) for group in each_by_itself(read, torch.arange(count), sizes, len, one)]

    sizes = block_sizes(count, 3)
    alone, parts = divided(SOLO), [divided(one) for one in team(size)]
    for number, members in enumerate(alone):
        owners = [part[number] for part in parts if part[number]]
        assert owners == [members]
