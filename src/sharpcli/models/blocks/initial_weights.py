"""Initial weights of convolutions; they preserve the variance of activations or gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn


def initialise(model: nn.Module, *, last: Sequence[nn.Conv2d] = (), mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Draw the weights of all convolutions and set their biases to 0, in place; other layers are not changed.

    Args:
        model: A new model.
        last: For a residual network without norms, the last convolution of each branch. Their weights are divided by the
            square root of the number of branches, because otherwise the variance of activations doubles in each block.
        mode: "fan_out" preserves the variance of gradients, "fan_in" that of activations.

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
