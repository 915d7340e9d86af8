"""The device that tests compute on: `pytest --device cuda`, or SHARPCLI_TEST_DEVICE=cuda; the CPU where neither is given.

Command lines are not told: with `--device cpu` every card is hidden from them, and otherwise their default takes the first.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from sharpcli.runtime import Runtime

VARIABLE = "SHARPCLI_TEST_DEVICE"
DEVICE = torch.device(os.environ.get(VARIABLE, "cpu"))


def same(found: Tensor, wanted: Tensor) -> bool:
    """Compare two answers of one computation: to the last bit on the CPU, to rounding on a GPU, whose sums have no order."""
    if DEVICE.type == "cpu":
        return torch.equal(found, wanted)
    if not wanted.is_floating_point():
        return torch.equal(found, wanted)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[wanted.dtype]
    return bool((found - wanted).norm() <= tolerance * wanted.norm())


def on_device(dtype: str = "float64") -> Runtime:
    """Return the device, with a type of numbers on it."""
    return Runtime.open(str(DEVICE), dtype)
