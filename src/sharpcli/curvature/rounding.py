"""Measure the rounding error of a product by the same product in float64, on some of the samples or on all.

An error that is equal in every product cannot be seen by comparing products with each other: near its minimum, a loss of
1e-6 costs six digits of a softmax, symmetrically and reproducibly. A product in float64 is compared with a product at
weights that differ by a few units of rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sharpcli import streams
from sharpcli.chunks import Chunk
from sharpcli.curvature.engine import Graph, Maker
from sharpcli.errors import is_out_of_memory
from sharpcli.linalg.reductions import norm
from sharpcli.objective import Objective
from sharpcli.runtime import generator

_SAMPLES = 128  # Enough to estimate errors, at a hundredth of the cost of a product over ten thousand.
_SMALL = 2 * 10**7  # Samples times parameters up to which all samples are used: a product takes some milliseconds.
_MISSING = 0.5  # Share of a product that some samples must contribute to represent all.
_UNITS = 8  # Units of rounding by which weights are moved if there is no wider type.


class Rounding:
    """The products of some samples, or of all, in the type of an objective and in float64.

    Attributes:
        whole: Whether all samples are used.
    """

    def __init__(self, maker: Maker, objective: Objective, theta: Tensor, *, whole: bool = False) -> None:
        """Choose the samples: all, or random samples; if BatchNorm uses the statistics of blocks, the first block.

        Args:
            maker: Makes the reference engine for an objective.
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            whole: Whether to use all samples, also if this is expensive; then no graph is stored.
        """
        small = objective.num_samples <= _SAMPLES or objective.num_samples * len(theta) <= _SMALL
        self.whole, keep = whole or small, not whole
        few = objective if self.whole else objective.among(_chosen(objective).to(theta.device))
        double = theta.dtype == torch.float64
        wide = few if double else few.doubled()
        self._processes, self._total_weight = few.processes, few.total_weight
        if few.bn == "batch":
            wide = replace(wide, chunk_size=few.chunk_size)
        elif not double:
            wide = replace(wide, chunk_size=max(few.chunk_size // 2, 1))  # Each takes twice the memory.
        self._sides = (
            _Side(maker, few, theta, keep=keep),
            _Side(maker, wide, _moved(theta) if double else theta.double(), keep=keep),
        )

    def difference(
        self, vector: Tensor, scale: Tensor | None = None, within: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[float, float]:
        """Return the norm of the error of the product with a vector (P,), and the norm of the more precise product.

        Args:
            vector: v.
            scale: s, shape (P,), if the matrix is diag(s) A diag(s); else None.
            within: Returns the entries of a product (P,) that count; None for all.
        """
        along = vector if scale is None else scale * vector
        both = torch.stack([side.own_product(along) for side in self._sides])
        narrow, wide = self._processes.sum(both, along) / self._total_weight
        if scale is not None:
            narrow, wide = scale * narrow, scale * wide
        if within is not None:
            narrow, wide = within(narrow), within(wide)
        return norm(narrow - wide), norm(wide)

    def stands_for(self, length: float, share: float) -> bool:
        """Return whether the samples contribute enough to a product of norm `length`, if their part has norm `share`."""
        return self.whole or share >= _MISSING * length


def measured(maker: Maker, objective: Objective, theta: Tensor, *, whole: bool = False) -> Rounding | None:
    """Return an object that measures rounding, or None if rounding cannot be measured.

    It cannot be measured on a device without float64, or for a model that supports one type only, such as by a cast.
    """
    if theta.device.type == "mps":
        return None
    try:
        return Rounding(maker, objective, theta, whole=whole)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        return None


class _Side:
    """The matrix of an objective at a point; its graphs are stored, or computed again for each product."""

    def __init__(self, maker: Maker, objective: Objective, theta: Tensor, *, keep: bool) -> None:
        self._engine, self._objective, self._theta, self._keep = maker(objective), objective, theta, keep
        chunks = objective.chunks() if keep else iter(())
        with objective.arithmetic():
            self._graphs = [self._open(chunk) for chunk in chunks]
        if not keep:  # Errors should be raised here.
            with objective.arithmetic():
                self._open(objective.few())

    def own_product(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (P,), in float64, summed over the loss terms of this process."""
        objective = self._objective
        parts = list(objective.space.split(vector.to(objective.runtime.dtype)).values())
        total = torch.zeros_like(vector, dtype=torch.float64)
        with objective.arithmetic():
            for graph in self._graphs if self._keep else map(self._open, objective.chunks()):
                total += objective.space.flatten(graph.product(parts, keep=self._keep)).detach()
        return total

    def _open(self, chunk: Chunk) -> Graph:
        return self._engine.differentiate(chunk, self._objective.leaves(self._theta))


def _chosen(objective: Objective) -> Tensor:
    """Return the indices of some samples."""
    if objective.bn == "batch":
        return torch.arange(objective.chunk_size)
    return torch.randperm(objective.num_samples, generator=generator(0, streams.ROUNDING_SAMPLES))[:_SAMPLES]


def _moved(theta: Tensor) -> Tensor:
    """Return weights (P,) that differ by a few units of rounding."""
    signs = torch.randint(0, 2, (len(theta),), generator=generator(0, streams.ROUNDING_SIGNS, 1)) * 2.0 - 1
    return theta * (1 + _UNITS * torch.finfo(theta.dtype).eps * signs.to(theta))
