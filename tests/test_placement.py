"""One copy of the data on a device for all who use it at the same time."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn

from sharpcli.objective import Objective
from sharpcli.placement import shared
from tests.device import DEVICE, on_device


def test_a_copy_is_shared_while_it_is_used_and_freed_then():
    part = torch.randn(20, 3)
    assert shared(part, torch.device("cpu"), torch.float32) is part
    copy = shared(part, DEVICE, torch.float64)
    assert torch.equal(copy.cpu(), part.double())
    assert shared(part, DEVICE, torch.float64) is copy
    assert shared(part.clone(), DEVICE, torch.float64) is not copy
    gone = weakref.ref(copy)
    del copy
    gc.collect()
    assert gone() is None
    assert torch.equal(shared(part, DEVICE, torch.float64).cpu(), part.double())


def test_a_change_in_place_makes_another_copy():
    part = torch.zeros(3)
    before = shared(part, DEVICE, torch.float64)
    part += 1
    assert shared(part, DEVICE, torch.float64).tolist() == [1, 1, 1]
    assert before.tolist() == [0, 0, 0]


def test_classes_keep_their_type():
    classes = torch.arange(4)
    assert shared(classes, torch.device("cpu"), torch.float64) is classes


def test_two_objectives_share_their_data():
    inputs, targets = torch.randn(20, 3), torch.arange(20) % 3
    first, second = (Objective.of(nn.Linear(3, 3), inputs, targets, runtime=on_device("float64")) for _ in range(2))
    assert first.inputs is second.inputs
    assert first.targets is second.targets
