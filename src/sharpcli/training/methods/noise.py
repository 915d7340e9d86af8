"""Gradient noise of three kinds: per example, per coordinate, and added.

Reference: Hoffer et al., NeurIPS 2017 (per example); Geiping et al., ICLR 2022 (the other two).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sharpcli import streams
from sharpcli.runtime import generator


def example_weights(count: int, deviation: float, seed: int, update: int) -> Tensor:
    """Return z ~ N(1, σ²) for each example of an update, shape (count,), float32, on the CPU.

    The gradient is then (1/B) Σ z_n g_n: its mean is unchanged, and its covariance increases by (1/B²) σ² Σ g_n g_nᵀ.
    With σ² = B/b - 1 the covariance is that of batches of b; Hoffer et al. propose this instead of another learning rate.
    """
    return 1 + deviation * torch.randn(count, generator=generator(seed, streams.EXAMPLE_NOISE, update))


def disturb(parameters: Sequence[nn.Parameter], *, coordinate: float, additive: float, seed: int, update: int) -> None:
    """Multiply each coordinate of `.grad` by N(1, coordinate²) and then add N(0, additive²); 0 is off."""
    for stream, deviation in ((streams.COORDINATE_NOISE, coordinate), (streams.ADDITIVE_NOISE, additive)):
        if not deviation:
            continue
        random = generator(seed, stream, update)
        for parameter in parameters:
            if parameter.grad is None:
                continue
            noise = deviation * torch.randn(parameter.shape, generator=random).to(parameter.grad)
            if stream == streams.COORDINATE_NOISE:
                parameter.grad.mul_(1 + noise)
            else:
                parameter.grad.add_(noise)
