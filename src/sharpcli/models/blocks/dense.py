"""Dense layers with norm, ReLU and dropout, as in the networks F1, F2, C1 and C2 of Keskar et al., ICLR 2017."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.errors import SettingsError
from sharpcli.models.blocks.norm import norm_layer


def require_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside 0 <= dropout < 1.

    Raises:
        SettingsError: `dropout` is below 0, or 1 or more.
    """
    if not 0 <= dropout < 1:
        raise SettingsError(f"The option dropout is {dropout}, but must be a probability.", "Choose 0 <= dropout < 1.")


def dense_layers(num_inputs: int, widths: Sequence[int], norm: str, dropout: float | None = None) -> list[nn.Module]:
    """Build one dense layer, norm and ReLU for each width; together they map (B, num_inputs) to (B, widths[-1]).

    Args:
        num_inputs: Length of one flattened sample.
        widths: Number of units of each layer.
        norm: "batch", "group" or "none".
        dropout: Dropout probability after each ReLU; None for no dropout layers.

    Raises:
        SettingsError: `norm` is unknown.
    """
    layers: list[nn.Module] = []
    for width in widths:
        # A bias before a norm has no effect, but the published numbers of parameters include it.
        layers += [nn.Linear(num_inputs, width), norm_layer(norm, width, spatial=False), nn.ReLU()]
        layers += [] if dropout is None else [nn.Dropout(dropout)]
        num_inputs = width
    return layers


def dense_net(*, depth: int, width: int) -> Callable[..., nn.Module]:
    """Return the function `build` of a network of equal dense layers with norm and ReLU, and a linear head.

    Args:
        depth: Number of hidden layers.
        width: Default of the option `width`, the number of units of each hidden layer.
    """
    default_width = width

    def build(*, input_shape: tuple[int, ...], num_classes: int, width: int = default_width, norm: str = "batch") -> nn.Module:
        """Build the network.

        Args:
            input_shape: Shape of one sample; samples are flattened.
            num_classes: Number of outputs.
            width: Number of units of each hidden layer.
            norm: "batch" as published, "group" or "none".

        Returns:
            A module that maps (B, *input_shape) to (B, num_classes).

        Raises:
            SettingsError: `width` is below 1, or `norm` is unknown.
        """
        require_at_least("width", width, 1)
        hidden = dense_layers(math.prod(input_shape), [width] * depth, norm)
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, num_classes))

    return build
