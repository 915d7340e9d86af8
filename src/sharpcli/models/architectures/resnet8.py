"""ResNet-8 for CIFAR-sized images: one block a stage, widths 16, 32 and 64, shortcuts without parameters.

Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.resnet import build_resnet


def build(*, input_shape: tuple[int, ...], num_classes: int, width: int = 16, norm: str = "batch") -> nn.Module:
    """Build the network of depth 6n + 2 with n = 1 blocks a stage.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the first stage; the next two have twice and four times as many.
        norm: "batch" as published, "group" or "none".

    Returns:
        A module from (B, C, H, W) to (B, num_classes).

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` is unknown.
    """
    return build_resnet(
        input_shape=input_shape,
        num_classes=num_classes,
        width=width,
        norm=norm,
        blocks=(1, 1, 1),
        shortcut="padded",
    )
