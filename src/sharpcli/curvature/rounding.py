"""How much of a product is rounding: the same product in float64, over some of the samples.

What is wrong alike in every product shows in no comparison of products with each other: near its least value a loss
of 1e-6 costs six digits of a softmax, symmetrically and repeatably.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.engine import Maker
from sharpcli.linalg.reductions import norm
from sharpcli.objective import Objective
from sharpcli.runtime import generator, is_out_of_memory

_SAMPLES = 128  # So many tell the size of errors, at a hundredth of the price of a product over ten thousand.
_STREAM = 23
_HEAVY = 3  # Groups that are looked at by themselves,
_UNFAIR = 3.0  # where they make so many times their fair share.


class Rounding:
    """The products of some samples in the type of an objective and in float64."""

    def __init__(self, maker: Maker, objective: Objective, theta: Tensor, chosen: Tensor | None = None) -> None:
        """Choose the samples: all, or some at random; with the statistics of blocks, the first block.

        Args:
            maker: Makes the engine that is right, for an objective.
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            chosen: Numbers of the samples, if they are known.
        """
        if chosen is None and objective.bn == "batch":
            chosen = torch.arange(objective.chunk_size)
        elif chosen is None:
            order = torch.randperm(objective.num_samples, generator=generator(0, _STREAM))
            chosen = order[:_SAMPLES] if objective.num_samples > _SAMPLES else torch.arange(objective.num_samples)
        few = objective.among(chosen.to(theta.device))
        wide = few.widened(Chunk(0, few.inputs, few.targets))
        if objective.bn != "batch":
            wide = replace(wide, chunk_size=max(few.chunk_size // 2, 1))  # Twice as wide each.
        self.share = few.num_terms / objective.num_terms
        self._products = [_product(maker, part, theta.to(part.runtime.dtype)) for part in (few, wide)]

    def error(self, vector: Tensor) -> float:
        """Return how far the product with a vector (P,) is from that in float64, as a mean over these samples."""
        narrow, wide = (product(vector) for product in self._products)
        return norm(narrow.double() - wide)


def measured(maker: Maker, objective: Objective, theta: Tensor, chosen: Tensor | None = None) -> Rounding | None:
    """Return what measures rounding, or None where there is nothing to measure it by: in float64, or without it."""
    if theta.dtype == torch.float64 or theta.device.type == "mps":
        return None
    try:
        return Rounding(maker, objective, theta, chosen)
    except (RuntimeError, TypeError) as error:  # A model that works in one type only, such as one that casts to it.
        if is_out_of_memory(error):
            raise
        return None


def heaviest(forms: Tensor, counts: Tensor) -> list[int]:
    """Return the few groups of samples that make much of a quadratic form; [] where all make about as much.

    Samples at random may miss the few that make an eigenvalue, and with them its rounding.

    Args:
        forms: vᵀA_g v of each group, shape (G,).
        counts: Loss terms of each group, shape (G,).
    """
    shares = (forms * counts).abs()
    total, most = float(shares.sum()), shares.topk(min(_HEAVY, len(shares)))
    fair = len(most.indices) / len(shares)
    return most.indices.tolist() if total and float(most.values.sum()) > _UNFAIR * fair * total else []


def _product(maker: Maker, objective: Objective, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the product with the matrix of an objective, made with graphs that are kept."""
    engine = maker(objective)
    with objective.arithmetic():
        graphs = [engine.differentiate(chunk, objective.leaves(theta)) for chunk in objective.chunks()]

    def multiply(vector: Tensor) -> Tensor:
        parts = list(objective.space.split(vector.to(objective.runtime.dtype)).values())
        with objective.arithmetic():
            products = [objective.space.flatten(graph.product(parts, keep=True)).detach().double() for graph in graphs]
        return torch.stack(products).sum(0) / objective.num_terms

    return multiply
