"""The interface of an engine, which computes products with the curvature matrix of one chunk of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.objective import Objective


class Graph(Protocol):
    """The part of the differentiation of one chunk that does not depend on the vector."""

    @property
    def slopes(self) -> Sequence[Tensor]:
        """The tensors that are differentiated a second time; this must be possible."""

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """Return the product with the chunk's matrix, summed over its terms, in the shapes of the parameters.

        Args:
            parts: The vector in the shapes of the parameters.
            keep: Whether another product will follow.
        """

    def saved_bytes(self) -> int | None:
        """Return the bytes that it holds; None if autograd holds them, so that they must be measured when a graph is made."""


class Engine(Protocol):
    """Computes products with the matrix of one chunk, exact up to rounding."""

    @property
    def words(self) -> str:
        """The name of the engine in messages."""

    @property
    def keeps(self) -> bool:
        """Whether a second product with the same graph costs less than one with a fresh graph."""

    @property
    def compiled(self) -> bool:
        """Whether it goes through torch.compile."""

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Graph:
        """Return the graph of a chunk at parameters given by name: the part that does not depend on a vector."""


Maker = Callable[[Objective], Engine]
