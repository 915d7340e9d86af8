"""What all curvature operators share: products with a symmetric matrix that is a mean over loss terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.graphs import require_twice_differentiable
from sharpcli.objective import Objective

_SECOND_ORDER_FACTOR = 5  # A kept gradient graph holds up to about five times what a forward pass saves.
_MEMORY_SHARE = 0.3  # Of the free memory, for kept graphs.


class Graph(Protocol):
    """One chunk, differentiated as far as does not depend on the vector to be multiplied."""

    @property
    def slopes(self) -> Sequence[Tensor]:
        """What is differentiated a second time; it must be able to be."""

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """Return the product with the chunk's matrix, summed over its terms, in the shapes of the parameters.

        Args:
            parts: The vector in the shapes of the parameters.
            keep: Whether another product will be asked for.
        """


class GroupedProduct(NamedTuple):
    """A product with a vector, and what each group of samples has contributed to its quadratic form.

    Attributes:
        product: Av, shape (P,), in the operator's type.
        forms: vᵀA_g v, where A_g is the mean over the loss terms of group g, shape (G,), float64, on the CPU.
        counts: Number of loss terms of each group, shape (G,), on the CPU. Σ counts·forms / Σ counts is vᵀAv.
    """

    product: Tensor
    forms: Tensor
    counts: Tensor


class CurvatureOperator(ABC):
    """A symmetric matrix A(θ) = (1/n) Σ over chunks, as a map on vectors (P,).

    What of a chunk does not depend on the vector (its graph) is kept from product to product as long as
    memory allows, and made afresh otherwise; the answer is the same, keeping saves 40 % of the time.

    Attributes:
        method: How products come about, in words.
        objective: Mean loss over data.
        products: Number of products so far.
    """

    method: str

    def __init__(self, objective: Objective, theta: Tensor, *, memory: int | None = None) -> None:
        """Fix the point.

        Args:
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            memory: Bytes that kept graphs may take. Default: a share of what is free.
        """
        self.objective = objective
        self.products = 0
        self._theta = theta.detach().clone()
        self._graphs: dict[int, Graph] = {}
        self._checked = False
        budget = _MEMORY_SHARE * objective.runtime.free_memory() if memory is None else memory
        a_chunk = _SECOND_ORDER_FACTOR * objective.saved_bytes_per_sample() * objective.chunk_size
        self._keep = int(budget / max(a_chunk, 1))

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self.objective.space.dimension,) * 2

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors, that of the parameters."""
        return self.objective.runtime.dtype

    @property
    def device(self) -> torch.device:
        """Where the vectors live."""
        return self.objective.runtime.device

    @property
    def engine(self) -> str:
        """How products come about, in words."""
        count = len(self.objective.chunk_sizes)
        return f"{self.method}, graphs kept for {min(self._keep, count)} of {count} chunks"

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return Av for a vector v (P,), in the operator's type; the sum over data is kept in float64."""
        self.products += 1
        parts = self._parts(vector)
        return self.objective.mean_over_data(lambda chunk: self._product(chunk, parts)).to(self.dtype)

    def quadratic_forms(self, vector: Tensor, *, groups: int, seed: int) -> GroupedProduct:
        """Return Av with the quadratic forms of groups of samples drawn at random; it counts as one product.

        No graph is kept for it, and no more samples pass at once than in any other product.

        Args:
            vector: v, shape (P,).
            groups: Number of groups, see `Objective.groups`; at most one a sample.
            seed: Of the permutation that cuts the samples into groups.
        """
        self.products += 1
        parts, whole = self._parts(vector), vector.to(self.objective.runtime.accumulator)
        total, forms, counts = torch.zeros_like(whole), [], []
        for terms, chunks in self.objective.groups(groups, seed):
            product = self._group(chunks, parts)
            total += product
            forms.append(float(whole @ product) / terms)
            counts.append(terms)
        product = (total / self.objective.num_terms).to(self.dtype)
        return GroupedProduct(product, torch.tensor(forms, dtype=torch.float64), torch.tensor(counts))

    def _group(self, chunks: Iterable[Chunk], parts: list[Tensor]) -> Tensor:
        return self.objective.sum_over(chunks, lambda chunk: self._flatten(self._open(chunk).product(parts, keep=False)))

    def _product(self, chunk: Chunk, parts: list[Tensor]) -> Tensor:
        """Return the product with the matrix of one chunk of the pass in order, summed over its terms."""
        keep = chunk.number < self._keep
        graph = self._graphs.get(chunk.number) or self._open(chunk)
        if keep:
            self._graphs[chunk.number] = graph
        return self._flatten(graph.product(parts, keep=keep))

    def _open(self, chunk: Chunk) -> Graph:
        graph = self._differentiate(chunk, self.objective.leaves(self._theta))
        if not self._checked:
            require_twice_differentiable(graph.slopes)
            self._checked = True
        return graph

    @abstractmethod
    def _differentiate(self, chunk: Chunk, leaves: dict[str, Tensor]) -> Graph:
        """Return the graph of a chunk at parameters given by name."""

    def _parts(self, vector: Tensor) -> list[Tensor]:
        return list(self.objective.space.split(vector).values())

    def _flatten(self, columns: Sequence[Tensor]) -> Tensor:
        return self.objective.space.flatten(columns)
