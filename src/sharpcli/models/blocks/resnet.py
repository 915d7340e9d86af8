"""Residual networks for small images; each resnet file of architectures/ says its depth, width and shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.models.blocks.image_shape import image_shape
from sharpcli.models.blocks.initial_weights import initialise
from sharpcli.models.blocks.norm import norm_layer
from sharpcli.models.blocks.residual import Block, Bottleneck


def residual_net(*, blocks: Sequence[int], width: int, shortcut: str, bottleneck: bool = False) -> Callable[..., nn.Module]:
    """Return the function `build` of a residual net.

    Args:
        blocks: Blocks of each stage.
        width: Channels of the first stage, where the option `width` says nothing else.
        shortcut: The kind of shortcuts, where the option `shortcut` says nothing else.
        bottleneck: Whether blocks have three convolutions and put out four times their width.
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
        """Build the net.

        Args:
            input_shape: Shape (C, H, W) of one image.
            num_classes: Number of outputs.
            width: Channels of the first stage, with bottlenecks those inside of them; each further stage has twice as many.
            norm: "batch" as published, "group" or "none".
            shortcut: What stands beside a block that changes the shape: "padded" with zeros, without parameters, as He et
                al. do on CIFAR; "strided", a 1x1 convolution and norm, as they do on ImageNet; "pooled", these behind
                averages of 2x2 pixels, as Geiping et al. do.

        Returns:
            A module from (B, C, H, W) to (B, num_classes).

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
    """Build a 3x3 stem, stages that double the width and halve the image, average pooling, a linear head.

    Args:
        input_shape: Shape (C, H, W) of one image.
        num_classes: Number of outputs.
        width: Channels of the stem and the first stage.
        norm: "group", "batch" or "none".
        blocks: Blocks of each stage.
        shortcut: "padded", "strided" or "pooled", as in `shortcut_layer`.
        bottleneck: Whether blocks have three convolutions and put out four times their width.

    Returns:
        A module from (B, C, H, W) to (B, num_classes).

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
