"""Mirror half of the images, left to right.

Reference: Krizhevsky, Sutskever and Hinton, NeurIPS 2012, section 4.1; used by Geiping et al. and Keskar et al.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw(count: int, random: torch.Generator) -> Tensor:
    """Return whether each image is mirrored, shape (count, 1), booleans."""
    return torch.rand(count, 1, generator=random) < 0.5


def apply(images: Tensor, drawn: Tensor) -> Tensor:
    """Mirror those of the images (B, C, H, W) that were drawn."""
    return torch.where(drawn[:, :, None, None], images.flip(-1), images)
