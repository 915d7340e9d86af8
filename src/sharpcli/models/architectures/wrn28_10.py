"""WRN-28-10: a residual net of 28 layers, ten times as wide as its thin kin, with pre-activation blocks.

Reference: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016; trained by Nitanda et al., arXiv 2302.09376.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.wide_resnet import build_wide_resnet


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 160,
    norm: str = "batch",
    activation: str = "pre",
) -> nn.Module:
    """Build three stages of four blocks, of widths 160, 320 and 640, without dropout.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the first stage; the next two have twice and four times as many.
        norm: "batch" as published, "group" or "none".
        activation: "pre", norm and ReLU in front of each convolution and a stem of 16, as published; "post", ReLU
            behind the sum and a stem as wide as the first stage, as wrn16-4 has it.

    Returns:
        A module from (B, C, H, W) to (B, num_classes); 36,479,194 parameters on CIFAR-10.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` or `activation` is unknown.
    """
    return build_wide_resnet(
        input_shape=input_shape,
        num_classes=num_classes,
        depth=28,
        width=width,
        norm=norm,
        activation=activation,
    )
