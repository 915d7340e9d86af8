"""F1 of the large-batch papers: five dense layers of 512 units with BatchNorm, made for MNIST.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.dense import build_dense


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
    return build_dense(input_shape=input_shape, num_classes=num_classes, depth=5, width=width, norm=norm)
