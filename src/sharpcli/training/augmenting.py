"""Random changes of images: drawn again for each update, or drawn once for fixed copies of the data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpcli import plugins, streams
from sharpcli.runtime import generator


@dataclass(eq=False)
class Augmentation:
    """A sequence of plug-ins of training/augmentations, applied one after the other.

    For fixed copies, only the random numbers are stored (a few per sample), never the changed images.

    Attributes:
        names: Names of the plug-ins.
        num_samples: N.
        copies: Number of fixed copies of the data; 0 draws again for each update.
        seed: Seed of all random draws.
        device: Where the images are; the random numbers of an update are moved there at once.
    """

    names: tuple[str, ...]
    num_samples: int
    copies: int
    seed: int
    device: torch.device = torch.device("cpu")
    _fixed: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._plug_ins = [plugins.load("training/augmentations", name) for name in self.names]
        if self.copies:
            self._fixed = self._draw(self.num_samples * self.copies, 0)

    def drawn(self, update: int, indices: Tensor | None) -> list[Tensor]:
        """Return the random numbers of an update's samples: one tensor per plug-in, in the order of the samples.

        Args:
            update: Number of the update, counted from 0.
            indices: As `Batches.indices` returns them, on the device.
        """
        if self.copies:
            return self._fixed if indices is None else [numbers[indices] for numbers in self._fixed]
        return self._draw(self.num_samples if indices is None else len(indices), update)

    def __call__(self, images: Tensor, drawn: list[Tensor]) -> Tensor:
        """Change images (B, C, H, W) by the numbers that were drawn for each image."""
        for plug_in, numbers in zip(self._plug_ins, drawn, strict=True):
            images = plug_in.apply(images, numbers)
        return images

    def _draw(self, count: int, update: int) -> list[Tensor]:
        randoms = (generator(self.seed, streams.AUGMENTATION, update, place) for place in range(len(self._plug_ins)))
        pairs = zip(self._plug_ins, randoms, strict=True)
        return [plug_in.draw(count, random).to(self.device) for plug_in, random in pairs]
