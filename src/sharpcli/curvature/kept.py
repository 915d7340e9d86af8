"""The graphs of chunks that are kept from product to product, as many as a budget of memory holds."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.engine import Engine, Graph
from sharpcli.graphs import saved_bytes
from sharpcli.inputs import tensors_in
from sharpcli.objective import Objective


class GraphSize(NamedTuple):
    """What autograd holds of a chunk: a straight line through what the graphs of two samples and of a few hold.

    Attributes:
        fixed: Bytes whatever its size.
        each: Bytes for each sample.
    """

    fixed: float
    each: float

    @staticmethod
    def of(engine: Engine, objective: Objective, theta: Tensor) -> GraphSize:
        """Measure it.

        Args:
            engine: That makes the graphs, and leaves them to autograd.
            objective: Mean loss over data.
            theta: Where, shape (P,).
        """
        # Two, since one has no variance for BatchNorm to normalise by; never more than pass at once anyway.
        two, few = (objective.few(min(count, objective.chunk_size)) for count in (2, 4))
        with objective.arithmetic():
            least, most = (_saved(engine, objective, theta, chunk) for chunk in (two, few))
        more = len(few.targets) - len(two.targets)
        each = max(most - least, 0) / more if more else least / len(two.targets)
        return GraphSize(least - each * len(two.targets), each)

    def bytes(self, samples: int) -> int:
        """Return what so many samples take."""
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
    """A part of the graphs of one engine at one point, by the number of their chunk.

    Attributes:
        held: Bytes they take.
    """

    def __init__(self, engine: Engine, objective: Objective, theta: Tensor, budget: int) -> None:
        """Begin with none.

        Args:
            engine: Whose graphs they are.
            objective: Mean loss over data.
            theta: Where they are made, shape (P,).
            budget: Most bytes to hold.
        """
        self.held = 0
        self._engine, self._objective, self._theta, self._budget = engine, objective, theta, budget
        self._graphs: dict[int, Graph] = {}
        self._size: GraphSize | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._graphs)

    def __contains__(self, number: int) -> bool:
        """Tell whether that of a chunk is kept."""
        return number in self._graphs

    def get(self, number: int) -> Graph | None:
        """Return that of a chunk, if it is kept."""
        return self._graphs.get(number)

    def offer(self, chunk: Chunk, graph: Graph) -> None:
        """Keep one more if that is of use, and it fits."""
        if not self._engine.keeps or self._budget <= 0:
            return
        size = graph.saved_bytes()
        if size is None:
            self._size = self._size or GraphSize.of(self._engine, self._objective, self._theta)
            size = self._size.bytes(len(chunk.targets))
        if self.held + size <= self._budget:
            self._graphs[chunk.number] = graph
            self.held += size
