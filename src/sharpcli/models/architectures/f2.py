"""F2 of the large-batch papers: seven dense layers of 512 units with BatchNorm, made for the speech data TIMIT.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.dense import build_dense


def build(*, input_shape: tuple[int, ...], num_classes: int, width: int = 512, norm: str = "batch") -> nn.Module:
    """Build seven blocks of dense layer, norm and ReLU, and a linear head.

    Args:
        input_shape: Shape of one sample, (360,) in the paper; it is flattened.
        num_classes: Number of outputs, 1973 in the paper.
        width: Units of each hidden layer.
        norm: "batch" as published, "group" or "none".

    Returns:
        A module from (B, *input_shape) to (B, num_classes); 2,780,085 parameters on TIMIT.

    Raises:
        SettingsError: `width` is below 1, or `norm` is unknown.
    """
    return build_dense(input_shape=input_shape, num_classes=num_classes, depth=7, width=width, norm=norm)
