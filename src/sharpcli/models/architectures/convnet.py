"""The default model: a small convolutional network with GroupNorm; a full-batch gradient takes less than 1 s on a laptop.

Reference: Wu and He, Group Normalization, ECCV 2018, for the norm; the sizes are not from a paper.
"""

from __future__ import annotations

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.norm import norm_layer


def build(*, input_shape: tuple[int, ...], num_classes: int, width: int = 8, norm: str = "group") -> nn.Module:
    """Build three 3x3 convolutions of stride 2, each with norm and ReLU, and a linear head.

    Each convolution halves height and width, because the cost of full-batch training is proportional to the number of pixels.
    The head reads all positions; with average pooling, this small network learns much more slowly.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; the next two have 2 and 4 times as many.
        norm: "group", "batch" or "none".

    Returns:
        A module that maps (B, C, H, W) to (B, num_classes); 11,074 parameters for 1x28x28 and 10 classes.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` is unknown.
    """
    channels, height, length = image_shape(input_shape, "convnet")
    require_at_least("width", width, 1)
    layers: list[nn.Module] = []
    for outputs in (width, 2 * width, 4 * width):
        # A norm has its own shift, so a bias before a norm has no effect.
        convolution = nn.Conv2d(channels, outputs, 3, stride=2, padding=1, bias=norm == "none")
        layers += [convolution, norm_layer(norm, outputs), nn.ReLU()]
        channels, height, length = outputs, (height + 1) // 2, (length + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * length, num_classes))
