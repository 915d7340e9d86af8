"""What an engine is: a way to products with the curvature matrix of one chunk of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.objective import Objective


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

    def saved_bytes(self) -> int | None:
        """Return what it holds, or None where autograd does, which has to be watched when the graph is made."""


class Engine(Protocol):
    """A way to products with the matrix of one chunk, exact up to rounding."""

    @property
    def words(self) -> str:
        """Its name, for people."""

    @property
    def keeps(self) -> bool:
        """Whether a second product with the same graph costs less than one with a fresh graph."""

    @property
    def compiled(self) -> bool:
        """Whether it goes through torch.compile."""

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Graph:
        """Return the chunk at parameters given by name, differentiated as far as does not depend on a vector."""


Maker = Callable[[Objective], Engine]
