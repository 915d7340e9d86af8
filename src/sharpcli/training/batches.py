"""Which samples an update sees: a function of seed and update alone, so that a run can be taken up anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpcli import streams
from sharpcli.runtime import generator


@dataclass(eq=False)
class Batches:
    """Small batches or the full one, in one of three orders, from one or several copies of the data.

    Attributes:
        num_samples: N, of the training set.
        batch_size: B; N is the full batch, which takes every sample of every copy.
        seed: Of the order.
        shuffle: "epoch", a new permutation each pass, cut into batches of which the last may be smaller; "once", the
            same permutation each pass, since data are often sorted by class; "replacement", B independent draws.
        copies: How often the data were copied, each copy augmented in its own way. Small batches take copy
            number (epoch mod copies), the semi-stochastic control of Geiping et al. 2022.
        in_blocks: Whether it matters which samples of a full batch are near each other, as it does to BatchNorm.
    """

    num_samples: int
    batch_size: int
    seed: int
    shuffle: str = "epoch"
    copies: int = 1
    in_blocks: bool = False
    _order: tuple[int, Tensor] = field(default=(-1, torch.empty(0)), init=False)

    @property
    def is_full(self) -> bool:
        """Whether a batch is the whole training set."""
        return self.batch_size >= self.num_samples

    def indices(self, update: int) -> Tensor | None:
        """Return the samples of an update, counted from 0; None means all of them, in order.

        Returns:
            Shape (B,), or (N * copies,) for a full batch. Copy c of sample i is number c * N + i.
        """
        if self.is_full:
            if not self.in_blocks:
                return None if self.copies == 1 else torch.arange(self.num_samples * self.copies)
            return self._permutation(update, self.num_samples * self.copies)
        epoch, position = divmod(update, -(-self.num_samples // self.batch_size))
        offset = epoch % self.copies * self.num_samples
        if self.shuffle == "replacement":
            random = generator(self.seed, streams.REPLACEMENT, update)
            return torch.randint(self.num_samples, (self.batch_size,), generator=random) + offset
        order = self._permutation(epoch, self.num_samples)
        return order[position * self.batch_size : (position + 1) * self.batch_size] + offset

    def mixed(self) -> Tensor:
        """Return all samples of one copy in the order of "once", shape (N,)."""
        return torch.randperm(self.num_samples, generator=generator(self.seed, streams.FIXED_ORDER))

    def _permutation(self, epoch: int, count: int) -> Tensor:
        epoch = 0 if self.shuffle == "once" else epoch
        if self._order[0] != epoch:
            if self.shuffle == "once":
                random = generator(self.seed, streams.FIXED_ORDER)
            else:
                random = generator(self.seed, streams.EPOCH_ORDER, epoch)
            self._order = epoch, torch.randperm(count, generator=random)
        return self._order[1]
