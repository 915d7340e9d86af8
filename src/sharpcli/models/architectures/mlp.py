"""A plain multilayer perceptron without normalisation; hidden=() is softmax regression.

Reference: Goodfellow, Bengio and Courville, Deep Learning, 2016, chapter 6.
"""

from __future__ import annotations

import math

from torch import nn

from sharpcli.arguments import require_at_least
from sharpcli.errors import SettingsError, closest

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    hidden: tuple[int, ...] | int = (256, 128),
    activation: str = "relu",
) -> nn.Module:
    """Build dense layers with an activation after each layer except the last.

    Args:
        input_shape: Shape of one sample, with any number of axes; samples are flattened.
        num_classes: Number of outputs C.
        hidden: Number of units of each hidden layer; one number for one hidden layer, `()` for none.
        activation: "relu", "tanh" or "gelu".

    Returns:
        A module that maps (B, *input_shape) to (B, C).

    Raises:
        SettingsError: A number of units is below 1, or the activation is unknown.
    """
    if activation not in _ACTIVATIONS:
        hint = closest(activation, _ACTIVATIONS)
        raise SettingsError(f"There is no activation called '{activation}'.", hint)
    widths = (hidden,) if isinstance(hidden, int) else hidden
    layers: list[nn.Module] = [nn.Flatten()]
    num_inputs = math.prod(input_shape)
    for width in widths:
        require_at_least("hidden", width, 1)
        layers += [nn.Linear(num_inputs, width), _ACTIVATIONS[activation]()]
        num_inputs = width
    return nn.Sequential(*layers, nn.Linear(num_inputs, num_classes))
