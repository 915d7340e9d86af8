"""Move images by up to 4 pixels in each direction; pixels from outside are 0, the mean of standardised pixels.

Reference: He et al., CVPR 2016, section 4.2: pad 4 pixels on each side, crop at random; used by Geiping et al.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_PADDING = 4


def draw(count: int, random: torch.Generator) -> Tensor:
    """Return the first row and column of each crop, shape (count, 2), whole numbers from 0 to 8."""
    return torch.randint(2 * _PADDING + 1, (count, 2), generator=random)


def apply(images: Tensor, drawn: Tensor) -> Tensor:
    """Cut images (B, C, H, W) of the same size out of padded ones."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (_PADDING,) * 4)
    rows = drawn[:, :1] + torch.arange(height, device=images.device)
    columns = drawn[:, 1:] + torch.arange(width, device=images.device)
    samples = torch.arange(len(images), device=images.device)
    # Indexed with channels last, because the three index tensors must be adjacent.
    cropped = padded.movedim(1, -1)[samples[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.movedim(-1, 1).contiguous()
