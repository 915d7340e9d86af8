"""Random changes to images: anew for each update, or drawn once for fixed copies of the data."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from sharpcli import plugins, streams
from sharpcli.runtime import generator


@dataclass(eq=False)
class Augmentation:
    """A sequence of plug-ins of training/augmentations, applied one after the other.

    Only what was drawn is kept for fixed copies, a few numbers a sample, never the changed images.

    Attributes:
        names: Of the plug-ins.
        num_samples: N.
        copies: Fixed copies of the data; 0 draws anew for each update.
        seed: Of all that is drawn.
    """

    names: tuple[str, ...]
    num_samples: int
    copies: int
    seed: int
    _fixed: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._plug_ins = [plugins.load("training/augmentations", name) for name in self.names]
        if self.copies:
            self._fixed = self._draw(self.num_samples * self.copies, 0)

    def drawn(self, update: int, indices: Tensor | None) -> list[Tensor]:
        """Return the numbers for an update's samples, by plug-in, in the order of the samples.

        Args:
            update: Counted from 0.
            indices: As `Batches.indices` returns them.
        """
        if self.copies:
            return self._fixed if indices is None else [numbers[indices] for numbers in self._fixed]
        return self._draw(self.num_samples if indices is None else len(indices), update)

    def __call__(self, images: Tensor, drawn: list[Tensor]) -> Tensor:
        """Change images (B, C, H, W) by what was drawn for each."""
        for plug_in, numbers in zip(self._plug_ins, drawn, strict=True):
            images = plug_in.apply(images, numbers.to(images.device))
        return images

    def _draw(self, count: int, update: int) -> list[Tensor]:
        randoms = (generator(self.seed, streams.AUGMENTATION, update, place) for place in range(len(self._plug_ins)))
        return [plug_in.draw(count, random) for plug_in, random in zip(self._plug_ins, randoms, strict=True)]
