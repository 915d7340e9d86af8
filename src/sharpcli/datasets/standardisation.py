"""Standardisation of images: integer pixels are mapped to float32 with mean 0 and standard deviation 1 per channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

BYTE, TWO_BYTES = 255, 65535  # The largest values of 8 and of 16 bits per channel.


def standardise(images: Tensor, mean: Sequence[float], std: Sequence[float], *, full: int = BYTE) -> Tensor:
    """Map pixels to (pixel / full - mean) / std, channel by channel.

    Each operation is rounded to float32 separately, so the result is bitwise equal on every machine.

    Args:
        images: Shape (N, C, H, W), uint8 or uint16, in any memory order.
        mean: One number per channel; 1 is the largest pixel value.
        std: One number per channel, in the same unit.
        full: The largest pixel value, 255 or 65535.

    Returns:
        Shape (N, C, H, W), float32, contiguous.
    """
    scaled = images.to(torch.float32, memory_format=torch.contiguous_format).div_(full)
    shape = (1, len(mean), 1, 1)
    scaled.sub_(torch.tensor(mean, dtype=torch.float32).view(shape))
    return scaled.div_(torch.tensor(std, dtype=torch.float32).view(shape))


def standardisation_formula(mean: Sequence[float], std: Sequence[float], *, full: int = BYTE) -> str:
    """Return the formula of `standardise` with its numbers as text, to record the preprocessing."""
    return f"(pixels / {full} − {_numbers(mean)}) / {_numbers(std)}"


def channel_statistics(batches: Iterable[Tensor], *, full: int = BYTE) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel; 1 is the largest pixel value.

    Both are computed from the histogram of the pixel values, so the result does not depend on the order of the images.
    For a constant channel the standard deviation is set to 1, so that division by it is possible.

    Args:
        batches: Images (B, C, H, W), uint8 or uint16, at least one batch.
        full: The largest pixel value, 255 or 65535.
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
