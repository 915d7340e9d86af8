from __future__ import annotations

import pytest
import torch

from sharpcli import memory
from sharpcli.memory import MemoryPlan

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FREE = 1_000_000_000


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed forms below are of 1 GB of free memory on each device."""
    monkeypatch.setattr(memory, "free_memory", lambda device: FREE)


def test_without_a_limit_each_part_has_its_share_of_what_is_free():
    plan = MemoryPlan(CPU)
    assert plan.vectors(10) == plan.vectors(10**12) == 400_000_000
    assert plan.kept_graphs() == 300_000_000
    assert plan.graphs(10) is None


def test_a_limit_goes_to_vectors_first():
    plan = MemoryPlan(CPU, 1000)
    assert [plan.vectors(needed) for needed in (300, 5000)] == [300, 1000]
    assert [plan.graphs(needed) for needed in (300, 900, 5000)] == [700, 125, 125]
    assert plan.kept_graphs(700) == 350


def test_samples_of_a_pass():
    assert MemoryPlan(CPU).samples_per_pass(2**20) == 256
    assert MemoryPlan(CPU).samples_per_pass(1) == MemoryPlan(CPU).samples_per_pass(0) == 1000
    assert MemoryPlan(CPU).samples_per_pass(2**40) == 1
    assert MemoryPlan(GPU).samples_per_pass(2**20) == 256  # A sixteenth of 1 GB is less than 256 MiB.
    assert MemoryPlan(GPU).samples_per_pass(1) == 2**16


def test_a_gpu_with_much_memory_takes_more_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**36)
    assert MemoryPlan(GPU).samples_per_pass(2**20) == 4096


@pytest.mark.parametrize("device", [CPU, GPU])
def test_all_parts_together_leave_a_fifth_of_two_and_a_half_gibibytes_and_more(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
):
    for free in (2.6 * 2**30, 2**36):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: int(free))
        plan = MemoryPlan(device)
        one_pass = plan.samples_per_pass(2**20) * 2**20
        assert plan.vectors(10**12) + plan.kept_graphs() + one_pass <= 0.8 * free
