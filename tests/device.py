"""The device that tests compute on: `pytest --device cuda`, or SHARPCLI_TEST_DEVICE=cuda; the CPU where neither is given.

Command lines are not told: with `--device cpu` every card is hidden from them, and otherwise their default takes the first.
"""

from __future__ import annotations

import os

import torch

from sharpcli.runtime import Runtime

VARIABLE = "SHARPCLI_TEST_DEVICE"
DEVICE = torch.device(os.environ.get(VARIABLE, "cpu"))


def on_device(dtype: str = "float64") -> Runtime:
    """Return the device, with a type of numbers on it."""
    return Runtime.open(str(DEVICE), dtype)
