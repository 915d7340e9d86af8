"""Blocks of residual networks: two 3x3 convolutions or a bottleneck, and three kinds of shortcuts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sharpcli.errors import SettingsError, closest
from sharpcli.models.blocks.norm import norm_layer
from sharpcli.models.wiring import Layout, Wiring

SHORTCUTS = ("padded", "pooled", "strided")


class Block(nn.Module):
    """The sum of a shortcut and a branch of two 3x3 convolutions, followed by ReLU.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels, at least `inputs`.
        stride: 2 halves height and width, 1 keeps them.
        norm: "group", "batch" or "none".
        shortcut: The kind of shortcut if the shape changes; see `shortcut_layer`.
    """

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, shortcut: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, outputs)
        self.shortcut = shortcut_layer(shortcut, inputs, outputs, stride, norm)

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution of the branch; `initialise` scales its weights if there are no norms."""
        return self.conv2

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride); sizes are rounded up."""
        hidden = functional.relu(self.norm1(self.conv1(images)))
        # Not in place, because second derivatives need the original values of both terms.
        summed: Tensor = self.norm2(self.conv2(hidden)) + self.shortcut(images)
        return functional.relu(summed)

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Record the units that the two convolutions and the shortcut share; see `models.wiring`."""
        hidden = wiring.through(self.norm1, wiring.through(self.conv1, inputs))
        summed = wiring.into(self.conv2, hidden, outputs=wiring.through(self.shortcut, inputs))
        return wiring.through(self.norm2, summed)


class Bottleneck(nn.Module):
    """The sum of a shortcut and a branch of 1x1, 3x3 and 1x1 convolutions, followed by ReLU.

    The first two convolutions have a quarter of the output channels. The 3x3 convolution has the stride ("v1.5"). In He et
    al., the first convolution has the stride, so it ignores three of four pixels if the stride is 2.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels, at least `inputs` and a multiple of 4.
        stride: 2 halves height and width, 1 keeps them.
        norm: "group", "batch" or "none".
        shortcut: The kind of shortcut if the shape changes; see `shortcut_layer`.
    """

    expansion = 4

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, shortcut: str) -> None:
        super().__init__()
        bias, narrow = norm == "none", outputs // self.expansion
        self.conv1 = nn.Conv2d(inputs, narrow, 1, bias=bias)
        self.norm1 = norm_layer(norm, narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, narrow)
        self.conv3 = nn.Conv2d(narrow, outputs, 1, bias=bias)
        self.norm3 = norm_layer(norm, outputs)
        self.shortcut = shortcut_layer(shortcut, inputs, outputs, stride, norm)

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution of the branch; `initialise` scales its weights if there are no norms."""
        return self.conv3

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride); sizes are rounded up."""
        hidden = functional.relu(self.norm1(self.conv1(images)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        summed: Tensor = self.norm3(self.conv3(hidden)) + self.shortcut(images)
        return functional.relu(summed)

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Record the units that the three convolutions and the shortcut share; see `models.wiring`."""
        hidden = wiring.through(self.norm1, wiring.through(self.conv1, inputs))
        hidden = wiring.through(self.norm2, wiring.through(self.conv2, hidden))
        summed = wiring.into(self.conv3, hidden, outputs=wiring.through(self.shortcut, inputs))
        return wiring.through(self.norm3, summed)


class ZeroPadding(nn.Module):
    """A shortcut without parameters: it selects every `stride`-th pixel and appends channels of zeros."""

    def __init__(self, num_channels: int, stride: int) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + num_channels, H / stride, W / stride); sizes are rounded up."""
        kept = images[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.num_channels))

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Return the layout of the outputs: the channels of the input, then those of zeros; see `models.wiring`."""
        return (*inputs, wiring.new_units(self.num_channels))


def shortcut_layer(kind: str, inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    """Build the shortcut of a block, which maps (B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up.

    Args:
        kind: "padded" is `ZeroPadding` (option A of He et al.). "strided" is a 1x1 convolution with the stride, and a norm
            (option B). "pooled" is average pooling, a 1x1 convolution of stride 1 and a norm (C in the code of Geiping et
            al.).
        inputs: Number of input channels.
        outputs: Number of output channels. If it equals `inputs` and the stride is 1, the shortcut is the identity.
        stride: 2 halves height and width, 1 keeps them.
        norm: "group", "batch" or "none".

    Raises:
        SettingsError: `kind` or `norm` is unknown.
    """
    if kind not in SHORTCUTS:
        raise SettingsError(f"There is no shortcut called '{kind}'.", closest(kind, SHORTCUTS))
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "padded":
        return ZeroPadding(outputs - inputs, stride)
    pooled = kind == "pooled" and stride > 1
    convolution = nn.Conv2d(inputs, outputs, 1, 1 if pooled else stride, bias=norm == "none")
    layers = [convolution, norm_layer(norm, outputs)]
    # Sizes are rounded up, as in padded convolutions of stride 2; at the edge of an odd size, fewer pixels are averaged.
    return nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), *layers) if pooled else nn.Sequential(*layers)
