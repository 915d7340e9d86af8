"""First weights of convolutions, so that activations neither grow nor vanish from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn


def initialise(model: nn.Module, *, last: Sequence[nn.Conv2d] = (), mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Draw the weights of all convolutions, in place; biases become zero, dense layers and norms stay.

    Args:
        model: A new model.
        last: For a residual net without norms, the last convolution of each branch. They are divided by the root of
            their number, since otherwise activations double in each block.
        mode: Whether gradients ("fan_out") or activations ("fan_in") keep their size.

    References:
        He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for convolution in last:
            convolution.weight.mul_(1 / math.sqrt(len(last)))
