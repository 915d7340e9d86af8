"""Diagonal blocks of a curvature matrix: which parameters they have, and products with all of them from one graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sharpcli.curvature.double_backward import Gradient
from sharpcli.curvature.engine import Graph
from sharpcli.parameters import ParameterSpace

if TYPE_CHECKING:
    from sharpcli.curvature.operator import CurvatureOperator


class Rows(NamedTuple):
    """A part of a tensor: the entries start to stop along an axis."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """Some of the parameters θ: whole tensors, or rows of tensors.

    Attributes:
        name: Its name in tables.
        tensors: The names of the tensors, each with the rows that belong to the block; None for the whole tensor.
    """

    name: str
    tensors: Mapping[str, Rows | None]

    def size(self, space: ParameterSpace) -> int:
        """Return n, the number of parameters of the block."""
        shapes = dict(zip(space.names, space.shapes, strict=True))
        return sum(_part(torch.empty(shapes[name], device="meta"), rows).numel() for name, rows in self.tensors.items())

    def take(self, vector: Tensor, space: ParameterSpace) -> Tensor:
        """Return the entries (n,) of a vector (P,) that belong to the block."""
        return self._taken(space.split(vector))

    def spread(self, values: Tensor, space: ParameterSpace) -> dict[str, Tensor]:
        """Return values (n,) in the shapes of the block's tensors, by name, with zeros outside the block."""
        shapes, made, start = dict(zip(space.names, space.shapes, strict=True)), {}, 0
        for name, rows in self.tensors.items():
            made[name] = torch.zeros(shapes[name], dtype=values.dtype, device=values.device)
            part = _part(made[name], rows)
            part.copy_(values[start : start + part.numel()].view(part.shape))
            start += part.numel()
        return made

    def product(self, graph: Graph, values: Tensor, space: ParameterSpace, *, keep: bool) -> Tensor:
        """Return the product (n,) with the block of one chunk's matrix, summed over its loss terms.

        From a gradient's graph, only the gradient of the block's tensors is differentiated, and only with respect to them.
        Another graph computes the product with the whole matrix, of which the entries of the block are taken.

        Args:
            graph: The graph of the chunk.
            values: The vector (n,).
            space: The parameters θ.
            keep: Whether another product with this graph will follow.
        """
        parts = self.spread(values, space)
        if not isinstance(graph, Gradient):
            zeros = (parts.get(name) for name in space.names)
            whole = [
                torch.zeros(shape, dtype=values.dtype, device=values.device) if part is None else part
                for part, shape in zip(zeros, space.shapes, strict=True)
            ]
            return self._taken(dict(zip(space.names, graph.product(whole, keep=keep), strict=True)))
        slopes, leaves = (dict(zip(space.names, tensors, strict=True)) for tensors in (graph.slopes, graph.leaves))
        own = Gradient([leaves[name] for name in parts], [slopes[name] for name in parts])
        return self._taken(dict(zip(parts, own.product(list(parts.values()), keep=keep), strict=True)))

    def _taken(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([_part(tensors[name], rows).reshape(-1) for name, rows in self.tensors.items()])


class BlockOperator:
    """A_bb, a diagonal block of an operator's matrix A, as a symmetric map on vectors (n,).

    Products use the engine, the graphs and the scale of the operator.
    """

    def __init__(self, whole: CurvatureOperator, block: Block) -> None:
        self._whole, self._block = whole, block
        self._size = block.size(whole.objective.space)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self._size, self._size

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors."""
        return self._whole.dtype

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self._whole.device

    @property
    def product_error(self) -> float:
        """The largest error of a product of the whole operator; that of a block is not larger."""
        return self._whole.product_error

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return A_bb v for a vector v (n,)."""
        return self._whole.blockwise([self._block], [vector])[0]

    def measured_error(self, vector: Tensor, length: float) -> float:
        """Return the norm of the rounding error of A_bb v for a vector v (n,); see `CurvatureOperator.measured_error`."""
        space = self._whole.objective.space
        parts = self._block.spread(vector, space)
        zeros = (
            parts.get(name, torch.zeros(shape, dtype=vector.dtype, device=vector.device))
            for name, shape in zip(space.names, space.shapes, strict=True)
        )
        return self._whole.measured_error(space.flatten(zeros), length, self._block)


def _part(tensor: Tensor, rows: Rows | None) -> Tensor:
    return tensor if rows is None else tensor.narrow(rows.axis, rows.start, rows.stop - rows.start)
