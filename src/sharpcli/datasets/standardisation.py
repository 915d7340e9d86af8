"""Standardise images: whole numbers in, float32 numbers with mean 0 and deviation 1 of each channel out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

BYTE, TWO_BYTES = 255, 65535  # The full scale of 8 and of 16 bits a channel.


def standardise(images: Tensor, mean: Sequence[float], std: Sequence[float], *, full: int = BYTE) -> Tensor:
    """Map pixels to (pixel / full - mean) / std, channel by channel.

    Each step rounds to float32 on its own, so the result is the same to the last bit on every machine.

    Args:
        images: Shape (N, C, H, W), uint8 or uint16, in any memory order.
        mean: One number a channel, in units of the full scale 0..1.
        std: Likewise.
        full: The full scale of these pixels.

    Returns:
        Shape (N, C, H, W), float32, contiguous.
    """
    scaled = images.to(torch.float32, memory_format=torch.contiguous_format).div_(full)
    shape = (1, len(mean), 1, 1)
    scaled.sub_(torch.tensor(mean, dtype=torch.float32).view(shape))
    return scaled.div_(torch.tensor(std, dtype=torch.float32).view(shape))


def standardisation_formula(mean: Sequence[float], std: Sequence[float], *, full: int = BYTE) -> str:
    """Return the formula of `standardise`, for the record of the preprocessing."""
    return f"(pixels / {full} − {_numbers(mean)}) / {_numbers(std)}"


def channel_statistics(batches: Iterable[Tensor], *, full: int = BYTE) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, in units of the full scale 0..1.

    They are counted from a histogram of the values that a pixel can have, which is exact: no order of summation matters.
    A constant channel gets the deviation 1, so that it can be divided by.

    Args:
        batches: Images (B, C, H, W), uint8 or uint16, at least one batch.
        full: The full scale of these pixels.
    """
    means, deviations = [], []
    values = torch.arange(full + 1, dtype=torch.float64) / full
    counts: list[Tensor] = []
    for images in batches:
        more = [torch.bincount(_countable(channel.flatten()), minlength=full + 1) for channel in images.unbind(dim=1)]
        counts = [total + part for total, part in zip(counts, more, strict=True)] if counts else more
    for count in counts:
        share = count.double() / count.sum()
        mean = float(share @ values)
        deviation = float((share @ (values - mean) ** 2).sqrt())
        means.append(mean)
        deviations.append(deviation or 1.0)
    return means, deviations


def _countable(pixels: Tensor) -> Tensor:
    return pixels if pixels.dtype == torch.uint8 else pixels.to(torch.int64)


def _numbers(each: Sequence[float]) -> str:
    words = [f"{number:.4g}" for number in each]
    return words[0] if len(words) == 1 else f"({', '.join(words)})"
