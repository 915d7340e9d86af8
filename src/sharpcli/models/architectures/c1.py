"""C1 of Keskar et al.: two 5x5 convolutions and two dense layers with BatchNorm, designed for CIFAR-10.

Reference: Keskar et al., On Large-Batch Training for Deep Learning, ICLR 2017, Table 1 and appendix B.
"""

from __future__ import annotations

from torch import nn

from sharpcli.models.blocks.dense import dense_layers, require_dropout
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.norm import norm_layer


def build(*, input_shape: tuple[int, ...], num_classes: int, norm: str = "batch", dropout: float = 0.5) -> nn.Module:
    """Build 2 x (5x5 convolution to 64 channels, norm, ReLU, 3x3 max-pooling of stride 2), dense 384, dense 192, linear head.

    Args:
        input_shape: Shape (C, H, W) of one image, such as (3, 32, 32) or (1, 28, 28).
        num_classes: Number of outputs.
        norm: "batch" as published, "group" or "none".
        dropout: Dropout probability after each dense layer in training, 0 <= dropout < 1; 0.5 as published.

    Returns:
        A module that maps (B, C, H, W) to (B, num_classes); 1,757,834 parameters on CIFAR-10.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `norm` is unknown, or `dropout` is out of range.
    """
    channels, height, width = image_shape(input_shape, "c1")
    require_dropout(dropout)
    layers: list[nn.Module] = []
    for _ in range(2):
        # With padding 1, n pixels become n / 2, rounded up ("same" pooling).
        layers += [nn.Conv2d(channels, 64, 5, padding=2), norm_layer(norm, 64), nn.ReLU()]
        layers += [nn.MaxPool2d(3, stride=2, padding=1)]
        channels, height, width = 64, (height + 1) // 2, (width + 1) // 2
    dense = dense_layers(channels * height * width, (384, 192), norm, dropout)
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(192, num_classes))
