"""Shift images by up to a fifth of their size in each direction.

Reference: Keskar et al., ICLR 2017, appendix E, as it is cited: shifts of up to 0.2 of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sharpcli.training.augmentations._moving import moved

_LARGEST = 0.2


def draw(count: int, random: torch.Generator) -> Tensor:
    """Return the shift of each image along x and y, shape (count, 2), as a fraction of its size."""
    return (2 * torch.rand(count, 2, generator=random) - 1) * _LARGEST


def apply(images: Tensor, drawn: Tensor) -> Tensor:
    """Shift images (B, C, H, W)."""
    maps = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    maps[:, :, 2] = -2 * drawn  # Coordinates are in [-1, 1], and the map leads from the new position to the old one.
    return moved(images, maps)
