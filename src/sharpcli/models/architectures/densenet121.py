"""DenseNet-121 for images of the size of CIFAR: 3x3 stem, no max-pooling; a layer reads all earlier layers of its block.

Reference: Huang et al., Densely Connected Convolutional Networks, CVPR 2017, Table 1; used by Geiping et al., ICLR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sharpcli.arguments import require_at_least
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.initial_weights import initialise
from sharpcli.models.blocks.norm import norm_layer
from sharpcli.models.wiring import Layout, Wiring

_BLOCKS = (6, 12, 24, 16)
_BOTTLENECK = 4


class DenseLayer(nn.Module):
    """A layer that appends `growth` channels to the input; a 1x1 and a 3x3 convolution compute them from the input.

    Args:
        inputs: Number of input channels.
        growth: Number of appended channels; there are 4 times as many channels between the two convolutions.
        norm: "group", "batch" or "none".
    """

    def __init__(self, inputs: int, growth: int, norm: str) -> None:
        super().__init__()
        narrow = _BOTTLENECK * growth
        first = [norm_layer(norm, inputs), nn.ReLU(), nn.Conv2d(inputs, narrow, 1, bias=norm == "none")]
        second = [norm_layer(norm, narrow), nn.ReLU(), nn.Conv2d(narrow, growth, 3, padding=1, bias=norm == "none")]
        self.branch = nn.Sequential(*first, *second)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, inputs + growth, H, W)."""
        return torch.cat([images, self.branch(images)], dim=1)

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Return the layout of the outputs: the channels of the input, then those of the branch; see `models.wiring`."""
        return (*inputs, *wiring.through(self.branch, inputs))


def build(*, input_shape: tuple[int, ...], num_classes: int, growth: int = 32, norm: str = "batch") -> nn.Module:
    """Build four dense blocks of 6, 12, 24 and 16 layers; transitions between them halve the channels, height and width.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        growth: Number of channels that each layer appends; the stem has twice as many.
        norm: "batch" as published, "group" or "none".

    Returns:
        A module that maps (B, C, H, W) to (B, num_classes); 6,956,298 parameters on CIFAR-10.

    Raises:
        InputError: The inputs are not images.
        SettingsError: `growth` is below 1, or `norm` is unknown.
    """
    channels, _, _ = image_shape(input_shape, "densenet121")
    require_at_least("growth", growth, 1)
    inputs = 2 * growth
    # The first layer of a block normalises its input, so the stem has no norm.
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, padding=1, bias=norm == "none")]
    for block, count in enumerate(_BLOCKS):
        if block > 0:
            layers += _transition(inputs, norm)
            inputs //= 2
        for _ in range(count):
            layers.append(DenseLayer(inputs, growth, norm))
            inputs += growth
    head = [norm_layer(norm, inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)]
    model = nn.Sequential(*layers, *head)
    # The 1x1 convolutions have far more inputs than outputs: without norms, activations explode with "fan_out".
    initialise(model, mode="fan_in")
    return model


def _transition(inputs: int, norm: str) -> list[nn.Module]:
    """Return the layers that map (B, inputs, H, W) to (B, inputs // 2, H / 2, W / 2); H / 2 and W / 2 are rounded up."""
    convolution = nn.Conv2d(inputs, inputs // 2, 1, bias=norm == "none")
    return [norm_layer(norm, inputs), nn.ReLU(), convolution, nn.AvgPool2d(2, ceil_mode=True)]
