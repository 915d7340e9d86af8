"""How much of a product is rounding: the same product in float64, over some of the samples.

What is wrong alike in every product shows in no comparison of products with each other: near its least value a loss
of 1e-6 costs six digits of a softmax, symmetrically and repeatably.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpcli.curvature.engine import Maker
from sharpcli.linalg.reductions import norm
from sharpcli.objective import Objective
from sharpcli.runtime import generator, is_out_of_memory

_SAMPLES = 128  # So many tell the size of errors, at a hundredth of the price of a product over ten thousand.
_STREAM = 23


class Rounding:
    """The products of some samples in the type of an objective and in float64."""

    def __init__(self, maker: Maker, objective: Objective, theta: Tensor) -> None:
        """Choose the samples: all, or some at random; with the statistics of blocks, the first block.

        Args:
            maker: Makes the engine that is right, for an objective.
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
        """
        whole = objective.num_samples <= min(_SAMPLES, objective.chunk_size)
        count = objective.chunk_size if whole else min(_SAMPLES, max(objective.chunk_size // 2, 1))  # Twice as wide each.
        if objective.bn == "batch":
            few = objective.among(torch.arange(objective.chunk_size, device=theta.device))
        else:
            random = generator(0, _STREAM)
            few = objective.among(torch.randperm(objective.num_samples, generator=random)[:count].to(theta.device))
        wide = objective.widened(next(few.chunks()))
        self._products = [_product(maker, part, theta.to(part.runtime.dtype)) for part in (few, wide)]

    def error(self, vector: Tensor) -> float:
        """Return how far the product with a vector (P,) is from that in float64."""
        narrow, wide = (product(vector) for product in self._products)
        return norm(narrow.double() - wide)


def measured(maker: Maker, objective: Objective, theta: Tensor) -> Rounding | None:
    """Return what measures rounding, or None where there is nothing to measure it by: in float64, or without it."""
    if theta.dtype == torch.float64 or theta.device.type == "mps":
        return None
    try:
        return Rounding(maker, objective, theta)
    except (RuntimeError, TypeError) as error:  # A model that works in one type only, such as one that casts to it.
        if is_out_of_memory(error):
            raise
        return None


def _product(maker: Maker, objective: Objective, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the product with the matrix of one chunk, made with a graph that is kept."""
    chunk = next(objective.chunks())
    with objective.arithmetic():
        graph = maker(objective).differentiate(chunk, objective.leaves(theta))

    def multiply(vector: Tensor) -> Tensor:
        parts = list(objective.space.split(vector.to(objective.runtime.dtype)).values())
        with objective.arithmetic():
            product = objective.space.flatten(graph.product(parts, keep=True))
        return product.detach() / objective.num_terms

    return multiply
