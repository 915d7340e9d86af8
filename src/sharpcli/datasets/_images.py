"""From bytes to network inputs: uint8 images in, standardised float32 images out, all at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def standardise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Map bytes to (byte / 255 - mean) / std, channel by channel.

    Each step rounds to float32 on its own, so the result is the same to the last bit on every machine.

    Args:
        images: Shape (N, C, H, W), uint8, in any memory order.
        mean: One number a channel, in units of the full scale 0..1.
        std: Likewise.

    Returns:
        Shape (N, C, H, W), float32, contiguous.
    """
    scaled = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    shape = (1, len(mean), 1, 1)
    scaled.sub_(torch.tensor(mean, dtype=torch.float32).view(shape))
    return scaled.div_(torch.tensor(std, dtype=torch.float32).view(shape))


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, in units of the full scale 0..1.

    They are counted from a histogram of the 256 byte values, which is exact: no order of summation matters.
    A constant channel gets the deviation 1, so that it can be divided by.

    Args:
        images: Shape (N, C, H, W), uint8.
    """
    means, deviations = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in images.unbind(dim=1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = float(share @ values)
        deviation = float((share @ (values - mean) ** 2).sqrt())
        means.append(mean)
        deviations.append(deviation or 1.0)
    return means, deviations
