"""Rotate images by up to 10 degrees about their centre.

Reference: Keskar et al., ICLR 2017, appendix E, as it is cited: rotations of up to 10 degrees.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpcli.training.augmentations._moving import moved

_LARGEST = math.radians(10)


def draw(count: int, random: torch.Generator) -> Tensor:
    """Return the angle of each image, shape (count, 1), in radians."""
    return (2 * torch.rand(count, 1, generator=random) - 1) * _LARGEST


def apply(images: Tensor, drawn: Tensor) -> Tensor:
    """Rotate images (B, C, H, W); angles are those for square pixels, for any image shape."""
    height, width = images.shape[2:]
    cosine, sine = drawn[:, 0].cos(), drawn[:, 0].sin()
    maps = torch.zeros(len(images), 2, 3, device=images.device)
    maps[:, 0, 0], maps[:, 0, 1] = cosine, -sine * height / width
    maps[:, 1, 0], maps[:, 1, 1] = sine * width / height, cosine
    return moved(images, maps)
