"""ResNet-44 for CIFAR-sized images: seven blocks a stage, widths 16, 32 and 64.

Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.resnet import build_resnet


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 16,
    norm: str = "batch",
    shortcut: str = "padded",
) -> nn.Module:
    """Build the network of depth 6n + 2 with n = 7 blocks a stage.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the first stage; the next two have twice and four times as many.
        norm: "batch" as published, "group" or "none".
        shortcut: Where the shape changes: "padded" with zeros, without parameters, as He et al. do; "strided", a 1x1
            convolution and norm, as in the code of Hoffer et al., NeurIPS 2017; "pooled", it behind 2x2 averages.

    Returns:
        A module from (B, C, H, W) to (B, num_classes); 658,586 parameters on CIFAR-10, 661,338 with learned shortcuts.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` or `shortcut` is unknown.
    """
    return build_resnet(
        input_shape=input_shape,
        num_classes=num_classes,
        width=width,
        norm=norm,
        blocks=(7, 7, 7),
        shortcut=shortcut,
    )
