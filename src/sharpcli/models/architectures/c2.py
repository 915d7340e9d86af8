"""C2 of Keskar et al.: a VGG net of 13 3x3 convolutions with BatchNorm and dropout, designed for CIFAR-10.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.
"""

from __future__ import annotations

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.models.blocks.dense import dense_layers, require_dropout
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.initial_weights import initialise
from sharpcli.models.blocks.norm import norm_layer

_GROUPS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))  # Number of convolutions, and their channels as multiples of the width.


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 64,
    norm: str = "batch",
    dropout: float = 0.5,
) -> nn.Module:
    """Build five groups of 3x3 convolutions, each followed by 2x2 max-pooling, a dense layer and a linear head.

    Args:
        input_shape: Shape (C, H, W) of one image, such as (3, 32, 32) or (1, 28, 28).
        num_classes: Number of outputs.
        width: Channels of the first group; the others have 2, 4, 8 and 8 times as many. The dense layer has 8 times as many
            units, 512 by default.
        norm: "batch" as published, "group" or "none".
        dropout: Dropout probability before and after the dense layer in training, 0 <= dropout < 1. The probability between
            convolutions is 0.6 times this value in the first group and 0.8 times in the others. With the default, these
            are 0.5, 0.3 and 0.4 as published; 0 disables all dropout.

    Returns:
        A module that maps (B, C, H, W) to (B, num_classes); 14,991,946 parameters on CIFAR-10.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, `norm` is unknown, or `dropout` is out of range.
    """
    channels, height, length = image_shape(input_shape, "c2")
    require_at_least("width", width, 1)
    require_dropout(dropout)
    layers: list[nn.Module] = []
    for group, (count, multiple) in enumerate(_GROUPS):
        share = dropout * (0.6 if group == 0 else 0.8)
        layers += _group(channels, multiple * width, count, norm, share)
        channels, height, length = multiple * width, (height + 1) // 2, (length + 1) // 2
    dense = dense_layers(channels * height * length, (8 * width,), norm, dropout)
    head = nn.Linear(8 * width, num_classes)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), *dense, head)
    initialise(model)
    return model


def _group(inputs: int, outputs: int, count: int, norm: str, dropout: float) -> list[nn.Module]:
    """Return `count` times (convolution, norm, ReLU), with dropout between them and max-pooling at the end."""
    layers: list[nn.Module] = []
    for index in range(count):
        # A bias before a norm has no effect, but the nets of the authors contain it.
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), norm_layer(norm, outputs), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if index < count - 1 else []
        inputs = outputs
    # Sizes are rounded up ("same" pooling): 7 pixels become 4, and 1 pixel remains 1.
    return [*layers, nn.MaxPool2d(2, ceil_mode=True)]
