"""The samples of an update: a function of the seed and the update number only, so a run can resume at any update."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpcli import streams
from sharpcli.runtime import generator


@dataclass(eq=False)
class Batches:
    """Small batches or the full batch, in one of three orders, from one or several copies of the data.

    Attributes:
        num_samples: N, the size of the training set.
        batch_size: B; N means the full batch, which contains every sample of every copy.
        seed: Seed of the order.
        shuffle: "epoch", a new permutation each pass, cut into batches of which the last may be smaller; "once", the
            same permutation each pass, since data are often sorted by class; "replacement", B independent draws.
        copies: Number of copies of the data, each with its own augmentation. Small batches use copy
            number (epoch mod copies), the semi-stochastic control of Geiping et al. 2022.
        in_blocks: Whether the order of samples in a full batch matters, because blocks of it are used (as by BatchNorm).
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
        """Whether a batch is the entire training set."""
        return self.batch_size >= self.num_samples

    def indices(self, update: int) -> Tensor | None:
        """Return the indices of the samples of an update (counted from 0); None means all samples, in order.

        Returns:
            Shape (B,), or (N * copies,) for a full batch. Copy c of sample i has the index c * N + i.
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
        """Return the indices of all samples of one copy in the order of "once", shape (N,)."""
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
