"""Residual networks of two-convolution blocks for small images; the resnet files choose their depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.arguments import require_at_least
from sharpcli.models._input import image_shape
from sharpcli.models._norm import norm_layer


class Block(nn.Module):
    """Add to the input what two 3x3 convolutions make of it.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, at least `inputs`.
        stride: 2 halves the image, 1 keeps it.
        norm: "group", "batch" or "none".
        projection: Where the shape changes, True learns a 1x1 shortcut (option B), False pads with zeros (A).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, projection: bool) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, outputs)
        changes = stride != 1 or inputs != outputs
        self.shortcut: nn.Module = nn.Identity()
        if changes and projection:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
            self.shortcut = nn.Sequential(convolution, norm_layer(norm, outputs))
        elif changes:
            self.shortcut = ZeroPadding(outputs - inputs, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        hidden = functional.relu(self.norm1(self.conv1(images)))
        # Never in place: second-order transforms need both terms as they were.
        summed: Tensor = self.norm2(self.conv2(hidden)) + self.shortcut(images)
        return functional.relu(summed)


class ZeroPadding(nn.Module):
    """The shortcut without parameters: every `stride`-th pixel, and empty channels at the end."""

    def __init__(self, num_channels: int, stride: int) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + num_channels, H / stride, W / stride)."""
        kept = images[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.num_channels))


def build_resnet(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int,
    norm: str,
    blocks: Sequence[int],
    projection: bool,
) -> nn.Module:
    """Build a 3x3 stem, stages that double the width and halve the image, average pooling, a linear head.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the stem and the first stage.
        norm: "group", "batch" or "none".
        blocks: Blocks of each stage.
        projection: The kind of shortcut, as in `Block`.

    Returns:
        A module from (B, C, H, W) to (B, num_classes).

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` is unknown.
    """
    channels, _, _ = image_shape(input_shape, "resnet")
    require_at_least("width", width, 1)
    stem = nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none")
    layers: list[nn.Module] = [stem, norm_layer(norm, width), nn.ReLU()]
    inputs = width
    for stage, count in enumerate(blocks):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(Block(inputs, width * 2**stage, stride, norm, projection))
            inputs = width * 2**stage
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
    _initialise(model, branch_scale=1 / math.sqrt(sum(blocks)) if norm == "none" else 1.0)
    return model


def _initialise(model: nn.Module, *, branch_scale: float) -> None:
    """Draw weights as He et al. 2015 do; a smaller branch keeps activations from doubling in each block."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Block):
                module.conv2.weight.mul_(branch_scale)
