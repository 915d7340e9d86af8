"""ResNet-18 for CIFAR-sized images: 3x3 stem, no max-pooling, widths 64 to 512.

Reference: He et al., Deep Residual Learning, CVPR 2016, Table 1; stem of Geiping et al., ICLR 2022, appendix.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models._resnet import build_resnet


def build(*, input_shape: tuple[int, ...], num_classes: int, width: int = 64, norm: str = "group") -> nn.Module:
    """Build four stages of two blocks with 1x1 convolutions as shortcuts where the shape changes.

    Geiping et al. average-pool in front of these shortcuts; here they stride, as He et al. do.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the first stage; each further stage has twice as many.
        norm: "group", "batch" as published, or "none".

    Returns:
        A module from (B, C, H, W) to (B, num_classes); 11.2 million parameters.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` is unknown.
    """
    return build_resnet(
        input_shape=input_shape,
        num_classes=num_classes,
        width=width,
        norm=norm,
        blocks=(2, 2, 2, 2),
        projection=True,
    )
