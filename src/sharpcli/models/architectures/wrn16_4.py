"""WRN-16-4: a residual net of 16 layers, four times as wide as its thin kin, with Hoffer's post-activation blocks.

Reference: Hoffer et al., Train Longer, Generalize Better, NeurIPS 2017, code; Zagoruyko and Komodakis, BMVC 2016.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.wide_resnet import build_wide_resnet


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 64,
    norm: str = "batch",
    activation: str = "post",
) -> nn.Module:
    """Build three stages of two blocks, of widths 64, 128 and 256, without dropout.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the first stage; the next two have twice and four times as many.
        norm: "batch" as published, "group" or "none".
        activation: "post", ReLU behind the sum and a stem as wide as the first stage, as in the code of Hoffer et
            al.; "pre", norm and ReLU in front of each convolution and a stem of 16, as Zagoruyko and Komodakis have it.

    Returns:
        A module from (B, C, H, W) to (B, num_classes); 2,777,674 parameters on CIFAR-10, 2,748,890 with "pre".

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` or `activation` is unknown.
    """
    return build_wide_resnet(
        input_shape=input_shape,
        num_classes=num_classes,
        depth=16,
        width=width,
        norm=norm,
        activation=activation,
    )
