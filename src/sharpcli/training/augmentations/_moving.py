"""Move images by an affine map, with bilinear interpolation; pixels from outside are 0, the mean of standardised pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def moved(images: Tensor, maps: Tensor) -> Tensor:
    """Return images (B, C, H, W) sampled at the points given by affine maps (B, 2, 3) of [-1, 1]²."""
    grid = functional.affine_grid(maps.to(images.dtype), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
