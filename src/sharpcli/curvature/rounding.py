"""How much of a product is rounding: the same product in float64, over some of the samples, or over all.

What is wrong alike in every product shows in no comparison of products with each other: near its least value a loss
of 1e-6 costs six digits of a softmax, symmetrically and repeatably. Float64 itself is compared with a product at
weights that differ by a few units of rounding.
"""

from __future__ import annotations

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

_SAMPLES = 128  # So many tell the size of errors, at a hundredth of the price of a product over ten thousand.
_SMALL = 2 * 10**7  # Samples times parameters up to which all samples are taken: a product takes some milliseconds.
_MISSING = 0.5  # Share of a product that some samples must make to stand for all.
_UNITS = 8  # Of rounding, by which weights are moved where there is no wider type.


class Rounding:
    """The products of some samples, or of all, in the type of an objective and in float64.

    Attributes:
        whole: Whether the samples are all there are.
    """

    def __init__(self, maker: Maker, objective: Objective, theta: Tensor, *, whole: bool = False) -> None:
        """Choose the samples: all, or some at random; with the statistics of blocks, the first block.

        Args:
            maker: Makes the engine that is right, for an objective.
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            whole: Whether to take all, also where that is dear; then no graph is kept.
        """
        small = objective.num_samples <= _SAMPLES or objective.num_samples * len(theta) <= _SMALL
        self.whole, keep = whole or small, not whole
        few = objective if self.whole else objective.among(_chosen(objective).to(theta.device))
        double = theta.dtype == torch.float64
        wide = few if double else few.doubled()
        if few.bn == "batch":
            wide = replace(wide, chunk_size=few.chunk_size)
        elif not double:
            wide = replace(wide, chunk_size=max(few.chunk_size // 2, 1))  # Twice as wide each.
        self._sides = (
            _Side(maker, few, theta, keep=keep),
            _Side(maker, wide, _moved(theta) if double else theta.double(), keep=keep),
        )

    def difference(self, vector: Tensor) -> tuple[float, float]:
        """Return how far the product with a vector (P,) is from the better one, and how long that one is."""
        narrow, wide = (side.product(vector) for side in self._sides)
        return norm(narrow - wide), norm(wide)

    def stands_for(self, length: float, share: float) -> bool:
        """Tell whether these samples make enough of a product of some length, of which they make the length found."""
        return self.whole or share >= _MISSING * length


def measured(maker: Maker, objective: Objective, theta: Tensor, *, whole: bool = False) -> Rounding | None:
    """Return what measures rounding, or None where there is nothing to measure it by.

    That is a device without float64, or a model that works in one type only, such as one that casts to it.
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
    """The matrix of an objective at a point, its graphs kept or made anew for each product."""

    def __init__(self, maker: Maker, objective: Objective, theta: Tensor, *, keep: bool) -> None:
        self._engine, self._objective, self._theta, self._keep = maker(objective), objective, theta, keep
        chunks = objective.chunks() if keep else iter(())
        with objective.arithmetic():
            self._graphs = [self._open(chunk) for chunk in chunks]
        if not keep:  # What fails is to fail here.
            with objective.arithmetic():
                self._open(objective.few())

    def product(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (P,), in float64."""
        objective = self._objective
        parts = list(objective.space.split(vector.to(objective.runtime.dtype)).values())
        total = torch.zeros_like(vector, dtype=torch.float64)
        with objective.arithmetic():
            for graph in self._graphs if self._keep else map(self._open, objective.chunks()):
                total += objective.space.flatten(graph.product(parts, keep=self._keep)).detach()
        return total / objective.num_terms

    def _open(self, chunk: Chunk) -> Graph:
        return self._engine.differentiate(chunk, self._objective.leaves(self._theta))


def _chosen(objective: Objective) -> Tensor:
    """Return the numbers of some samples."""
    if objective.bn == "batch":
        return torch.arange(objective.chunk_size)
    return torch.randperm(objective.num_samples, generator=generator(0, streams.ROUNDING_SAMPLES))[:_SAMPLES]


def _moved(theta: Tensor) -> Tensor:
    """Return weights (P,) that differ by a few units of rounding."""
    signs = torch.randint(0, 2, (len(theta),), generator=generator(0, streams.ROUNDING_SIGNS, 1)) * 2.0 - 1
    return theta * (1 + _UNITS * torch.finfo(theta.dtype).eps * signs.to(theta))
