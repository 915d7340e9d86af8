"""Wide residual networks for small images; each wrn file of architectures/ defines the depth and width."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from sharpcli.arguments import require_at_least
from sharpcli.errors import SettingsError, closest
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.initial_weights import initialise
from sharpcli.models.blocks.norm import norm_layer
from sharpcli.models.blocks.resnet import build_resnet
from sharpcli.models.wiring import Layout, Wiring

ACTIVATIONS = ("post", "pre")
_STEM = 16  # Channels of the stem of the pre-activation network, for any width.


class PreActivationBlock(nn.Module):
    """The sum of a shortcut and a branch of two 3x3 convolutions, each preceded by a norm and ReLU.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        stride: 2 halves height and width, 1 keeps them.
        norm: "group", "batch" or "none".
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.norm1 = norm_layer(norm, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias) if changes else None

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride); sizes are rounded up."""
        activated = functional.relu(self.norm1(images))
        hidden = functional.relu(self.norm2(self.conv1(activated)))
        # A convolution as shortcut reads the activated input, as the branch does; the identity adds the unchanged input.
        kept: Tensor = images if self.shortcut is None else self.shortcut(activated)
        summed: Tensor = self.conv2(hidden) + kept
        return summed

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Record the units that the two convolutions and the shortcut share; see `models.wiring`."""
        activated = wiring.through(self.norm1, inputs)
        hidden = wiring.through(self.norm2, wiring.through(self.conv1, activated))
        kept = activated if self.shortcut is None else wiring.through(self.shortcut, activated)
        return wiring.into(self.conv2, hidden, outputs=kept)


def wide_residual_net(*, depth: int, width: int, activation: str) -> Callable[..., nn.Module]:
    """Return the function `build` of a wide residual network with three stages.

    Args:
        depth: Number of layers, 6n + 4 for n blocks per stage.
        width: Default of the option `width`: 16 times the widening factor of the papers.
        activation: Default of the option `activation`.
    """
    default_width, default_activation, count = width, activation, (depth - 4) // 6

    def build(
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        width: int = default_width,
        norm: str = "batch",
        activation: str = default_activation,
    ) -> nn.Module:
        """Build a 3x3 stem, three stages, average pooling and a linear head.

        Args:
            input_shape: Shape (C, H, W) of one image.
            num_classes: Number of outputs.
            width: Channels of the first stage; the next two have 2 and 4 times as many and halve height and width.
            norm: "batch" as published, "group" or "none".
            activation: "pre": norm and ReLU before each convolution, and a stem of 16 channels, as in Zagoruyko and
                Komodakis. "post": the blocks of ResNets with "strided" shortcuts, and a stem of `width` channels, as in the
                code of Hoffer et al.

        Returns:
            A module that maps (B, C, H, W) to (B, num_classes).

        Raises:
            InputError: The inputs are not images.
            SettingsError: `width` is below 1, or `norm` or `activation` is unknown.
        """
        if activation not in ACTIVATIONS:
            raise SettingsError(f"There is no activation called '{activation}'.", closest(activation, ACTIVATIONS))
        if activation == "post":
            return build_resnet(
                input_shape=input_shape,
                num_classes=num_classes,
                width=width,
                norm=norm,
                blocks=[count] * 3,
                shortcut="strided",
            )
        channels, _, _ = image_shape(input_shape, "wrn")
        require_at_least("width", width, 1)
        return _pre_activation(channels, num_classes, count, width, norm)

    return build


def _pre_activation(channels: int, num_classes: int, count: int, width: int, norm: str) -> nn.Module:
    stem = nn.Conv2d(channels, _STEM, 3, padding=1, bias=norm == "none")
    stack: list[PreActivationBlock] = []
    inputs = _STEM
    for stage in range(3):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            stack.append(PreActivationBlock(inputs, width * 2**stage, stride, norm))
            inputs = width * 2**stage
    head = [norm_layer(norm, inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)]
    model = nn.Sequential(stem, *stack, *head)
    initialise(model, last=[block.conv2 for block in stack] if norm == "none" else [])
    return model
