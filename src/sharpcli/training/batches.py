"""Which samples an update sees: a function of seed and update alone, so that a run can be taken up anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpcli.runtime import generator


@dataclass(eq=False)
class Batches:
    """Random reshuffling: each epoch a new permutation, cut into batches; the last one may be smaller.

    A batch of the whole training set is taken in order, so that its chunks are the same for the whole run.
    """

    num_samples: int
    batch_size: int
    seed: int
    _order: tuple[int, Tensor] = field(default=(-1, torch.empty(0)), init=False)

    def indices(self, update: int) -> Tensor | None:
        """Return the samples of an update, counted from 0, shape (B,); None means all, in order."""
        if self.batch_size >= self.num_samples:
            return None
        per_epoch = -(-self.num_samples // self.batch_size)
        epoch, position = divmod(update, per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, torch.randperm(self.num_samples, generator=generator(self.seed, 3, epoch))
        return self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
