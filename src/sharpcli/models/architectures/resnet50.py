"""ResNet-50 for CIFAR-sized images: bottlenecks, 3x3 stem, no max-pooling, widths 64 to 512.

Reference: He et al., Deep Residual Learning, CVPR 2016, Table 1; stem and shortcuts of Geiping et al., ICLR 2022, code.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.resnet import build_resnet


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 64,
    norm: str = "batch",
    shortcut: str = "pooled",
) -> nn.Module:
    """Build four stages of 3, 4, 6 and 3 bottlenecks, whose 3x3 convolution has the stride ("v1.5").

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels inside the first stage's bottlenecks, which put out four times as many; stages double them.
        norm: "batch" as published, "group" or "none".
        shortcut: Where the shape changes: "pooled", 2x2 averages in front of a 1x1 convolution, as Geiping et al. do;
            "strided", that convolution with a stride, as He et al. do; "padded" with zeros, without parameters.

    Returns:
        A module from (B, C, H, W) to (B, num_classes); 23,520,842 parameters on CIFAR-10.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` or `shortcut` is unknown.
    """
    return build_resnet(
        input_shape=input_shape,
        num_classes=num_classes,
        width=width,
        norm=norm,
        blocks=(3, 4, 6, 3),
        shortcut=shortcut,
        bottleneck=True,
    )
