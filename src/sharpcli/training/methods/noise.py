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
        random, slopes = generator(seed, stream, update), [part.grad for part in parameters if part.grad is not None]
        drawn = torch.cat([torch.randn(slope.shape, generator=random).flatten() for slope in slopes])
        pieces = torch.split(drawn.to(slopes[0]), [slope.numel() for slope in slopes])  # One copy to the device.
        for slope, piece in zip(slopes, pieces, strict=True):
            noise = deviation * piece.view(slope.shape)
            if stream == streams.COORDINATE_NOISE:
                slope.mul_(1 + noise)
            else:
                slope.add_(noise)
