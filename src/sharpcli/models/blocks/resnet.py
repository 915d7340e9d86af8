"""Residual networks for small images; each resnet file of architectures/ defines the depth, width and shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.initial_weights import initialise
from sharpcli.models.blocks.norm import norm_layer
from sharpcli.models.blocks.residual import Block, Bottleneck


def residual_net(*, blocks: Sequence[int], width: int, shortcut: str, bottleneck: bool = False) -> Callable[..., nn.Module]:
    """Return the function `build` of a residual network.

    Args:
        blocks: Number of blocks of each stage.
        width: Default of the option `width`.
        shortcut: Default of the option `shortcut`.
        bottleneck: Whether blocks are bottlenecks, whose number of output channels is 4 times their width.
    """
    default_width, default_shortcut = width, shortcut

    def build(
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        width: int = default_width,
        norm: str = "batch",
        shortcut: str = default_shortcut,
    ) -> nn.Module:
        """Build the network.

        Args:
            input_shape: Shape (C, H, W) of one image.
            num_classes: Number of outputs.
            width: Channels of the first stage; for bottlenecks, of their first two convolutions. The number doubles per stage.
            norm: "batch" as published, "group" or "none".
            shortcut: The shortcut of blocks that change the shape: "padded", zeros without parameters, as in He et al. for
                CIFAR; "strided", a 1x1 convolution and a norm, as in He et al. for ImageNet; "pooled", average pooling of
                2x2 pixels, a 1x1 convolution and a norm, as in Geiping et al.

        Returns:
            A module that maps (B, C, H, W) to (B, num_classes).

        Raises:
            InputError: The inputs are not images.
            SettingsError: `width` is below 1, or `norm` or `shortcut` is unknown.
        """
        return build_resnet(
            input_shape=input_shape,
            num_classes=num_classes,
            width=width,
            norm=norm,
            blocks=blocks,
            shortcut=shortcut,
            bottleneck=bottleneck,
        )

    return build


def build_resnet(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int,
    norm: str,
    blocks: Sequence[int],
    shortcut: str,
    bottleneck: bool = False,
) -> nn.Module:
    """Build a 3x3 stem, stages that double the channels and halve height and width, average pooling, and a linear head.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the stem and of the first stage; for bottlenecks, of their first two convolutions.
        norm: "group", "batch" or "none".
        blocks: Number of blocks of each stage.
        shortcut: "padded", "strided" or "pooled", as in `shortcut_layer`.
        bottleneck: Whether blocks are bottlenecks, whose number of output channels is 4 times their width.

    Returns:
        A module that maps (B, C, H, W) to (B, num_classes).

    Raises:
        InputError: The inputs are not images.
        SettingsError: `width` is below 1, or `norm` or `shortcut` is unknown.
    """
    channels, _, _ = image_shape(input_shape, "resnet")
    require_at_least("width", width, 1)
    stem = [nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none"), norm_layer(norm, width), nn.ReLU()]
    make = Bottleneck if bottleneck else Block
    stack: list[Block | Bottleneck] = []
    inputs = width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage * make.expansion
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            stack.append(make(inputs, outputs, stride, norm, shortcut))
            inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)]
    model = nn.Sequential(*stem, *stack, *head)
    initialise(model, last=[block.last for block in stack] if norm == "none" else [])
    return model
