"""Graphs of chunks that are stored between products, as many as fit into a memory budget."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.engine import Engine, Graph
from sharpcli.graphs import saved_bytes
from sharpcli.inputs import tensors_in
from sharpcli.objective import Objective


class GraphSize(NamedTuple):
    """The memory that autograd holds for a chunk: a linear function, fitted to graphs of two and of four samples.

    Attributes:
        fixed: Bytes that do not depend on the number of samples.
        each: Bytes for each sample.
    """

    fixed: float
    each: float

    @staticmethod
    def of(engine: Engine, objective: Objective, theta: Tensor) -> GraphSize:
        """Measure the memory.

        Args:
            engine: The engine of the graphs, which are held by autograd.
            objective: Mean loss over data.
            theta: The weights, shape (P,).
        """
        # Two, since BatchNorm needs a variance; never more than the samples per pass.
        two, few = (objective.few(min(count, objective.chunk_size)) for count in (2, 4))
        with objective.arithmetic():
            least, most = (_saved(engine, objective, theta, chunk) for chunk in (two, few))
        more = len(few.targets) - len(two.targets)
        each = max(most - least, 0) / more if more else least / len(two.targets)
        return GraphSize(least - each * len(two.targets), each)

    def bytes(self, samples: int) -> int:
        """Return the bytes for a number of samples."""
        return int(self.fixed + self.each * samples)

    def samples(self, memory: float) -> int:
        """Return how many samples fit, at least one."""
        return max(int((memory - self.fixed) / max(self.each, 1)), 1)


def _saved(engine: Engine, objective: Objective, theta: Tensor, chunk: Chunk) -> int:
    leaves = objective.leaves(theta)
    own = (*leaves.values(), *tensors_in(objective.inputs), objective.targets)
    graph, size = saved_bytes(lambda: engine.differentiate(chunk, leaves), own)
    return size + sum(slope.nbytes for slope in graph.slopes)


class KeptGraphs:
    """The stored graphs of one engine at one point, by the number of their chunk.

    Attributes:
        held: Bytes they take.
    """

    def __init__(self, engine: Engine, objective: Objective, theta: Tensor, budget: int) -> None:
        """Start without graphs.

        Args:
            engine: The engine of the graphs.
            objective: Mean loss over data.
            theta: The weights, shape (P,).
            budget: Largest number of bytes to hold.
        """
        self.held = 0
        self._engine, self._objective, self._theta, self._budget = engine, objective, theta, budget
        self._graphs: dict[int, Graph] = {}
        self._size: GraphSize | None = None

    def __len__(self) -> int:
        """Return the number of stored graphs."""
        return len(self._graphs)

    def __contains__(self, number: int) -> bool:
        """Return whether the graph of a chunk is stored."""
        return number in self._graphs

    def get(self, number: int) -> Graph | None:
        """Return the graph of a chunk; None if it is not stored."""
        return self._graphs.get(number)

    def offer(self, chunk: Chunk, graph: Graph) -> None:
        """Store a graph if the engine can use it again and it fits into the budget."""
        if not self._engine.keeps or self._budget <= 0:
            return
        size = graph.saved_bytes()
        if size is None:
            self._size = self._size or GraphSize.of(self._engine, self._objective, self._theta)
            size = self._size.bytes(len(chunk.targets))
        if self.held + size <= self._budget:
            self._graphs[chunk.number] = graph
            self.held += size
