"""F1 of the large-batch papers: five dense layers of 512 units with BatchNorm, made for MNIST.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.
"""

from __future__ import annotations

import math

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.models._norm import norm_layer

_DEPTH = 5


def build(*, input_shape: tuple[int, ...], num_classes: int, width: int = 512, norm: str = "batch") -> nn.Module:
    """Build five blocks of dense layer, norm and ReLU, and a linear head.

    Args:
        input_shape: Shape of one sample; it is flattened.
        num_classes: Number of outputs.
        width: Units of each hidden layer.
        norm: "batch" as published, "group" or "none".

    Returns:
        A module from (B, *input_shape) to (B, num_classes); 1,462,794 parameters on MNIST.

    Raises:
        SettingsError: `width` is below 1, or `norm` is unknown.
    """
    require_at_least("width", width, 1)
    layers: list[nn.Module] = [nn.Flatten()]
    num_inputs = math.prod(input_shape)
    for _ in range(_DEPTH):
        # The biases are idle in front of a norm, but the published parameter count has them.
        layers += [nn.Linear(num_inputs, width), norm_layer(norm, width, spatial=False), nn.ReLU()]
        num_inputs = width
    return nn.Sequential(*layers, nn.Linear(num_inputs, num_classes))
