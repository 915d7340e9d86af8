"""Exact products with JᵀMJ without forming J, the Jacobian of a function g of a chunk with respect to the parameters.

g(θ) is the outputs or the loss terms of a chunk.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.difference import Difference
from sharpcli.curvature.engine import Engine
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective

Middle = Callable[[Tensor], Tensor]
OutputsAndMiddle = Callable[[Objective, Chunk, Mapping[str, Tensor]], tuple[Tensor, Middle]]


@dataclass(frozen=True, eq=False)
class Sandwich:
    """JᵀMJ of one chunk, with M a symmetric map on tensors with the shape of g.

    Jv is the derivative of the linear map u -> Jᵀu along v (Townsend 2017, "A new trick for calculating
    Jacobian vector products"). This works for all operations with a second derivative; forward differentiation supports fewer.

    Attributes:
        leaves: The parameters.
        outputs: g, of any shape, still attached to the parameters.
        dummy: u, of the shape of `outputs`.
        slopes: Jᵀu in the shapes of the parameters, still attached to u.
        middle: M; it may overwrite its argument.
    """

    leaves: list[Tensor]
    outputs: Tensor
    dummy: Tensor
    slopes: Sequence[Tensor]
    middle: Middle

    @staticmethod
    def of(leaves: list[Tensor], outputs: Tensor, middle: Middle) -> Sandwich:
        """Differentiate once; `middle` must not depend on the vector."""
        dummy = torch.zeros((), dtype=outputs.dtype, device=outputs.device).expand(outputs.shape).requires_grad_()  # No memory.
        slopes = torch.autograd.grad(outputs, leaves, dummy, create_graph=True, allow_unused=True, materialize_grads=True)
        return Sandwich(leaves, outputs, dummy, slopes, middle)

    def along(self, parts: Sequence[Tensor], *, keep: bool) -> Tensor:
        """Return Jv, of the shape of `outputs`."""
        # The slope of an unused parameter does not depend on u.
        pairs = [(slope, part) for slope, part in zip(self.slopes, parts, strict=True) if slope.requires_grad]
        slopes, directions = zip(*pairs, strict=True)
        (along,) = torch.autograd.grad(slopes, self.dummy, directions, retain_graph=keep)
        return along

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """Return JᵀMJv."""
        along = self.along(parts, keep=keep)
        with torch.no_grad():
            back = self.middle(along.contiguous())
        return torch.autograd.grad(
            self.outputs, self.leaves, back, retain_graph=keep, allow_unused=True, materialize_grads=True
        )

    def saved_bytes(self) -> None:
        """Return None: autograd holds the graph."""


@dataclass(frozen=True, eq=False)
class JacobianProducts:
    """The engine of these products: g is differentiated in reverse mode, and the result once more.

    Attributes:
        objective: Mean loss over data; if it is fused, so are these products.
        outputs_and_middle: Returns g of a chunk at parameters given by name, and M.
    """

    objective: Objective
    outputs_and_middle: OutputsAndMiddle
    keeps: bool = True
    compiled: bool = False

    @property
    def words(self) -> str:
        """The name of the engine in messages."""
        return "fused " * self.objective.fused + "Jacobian products by double backward"

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Sandwich:
        """Return the sandwich of a chunk."""
        return Sandwich.of(list(leaves.values()), *self.outputs_and_middle(self.objective, chunk, leaves))


class JacobianOperator(CurvatureOperator):
    """A mean of JᵀMJ over loss terms as a map on vectors (P,), over all the data."""

    engines = ("double-backward", "fused", "difference")

    @staticmethod
    @abstractmethod
    def outputs_and_middle(objective: Objective, chunk: Chunk, leaves: Mapping[str, Tensor]) -> tuple[Tensor, Middle]:
        """Return g of a chunk, attached to parameters given by name, and M, which may overwrite its argument."""

    @classmethod
    def make(cls, engine: str, objective: Objective, *, compiled: bool = False) -> Engine:
        """Return an engine by name for an objective.

        Raises:
            SettingsError: `compiled` is True.
        """
        if compiled:
            raise SettingsError("Jacobian products cannot be compiled.", "Leave --compile out.")
        if engine == "difference":
            return Difference(objective, OutputDifferences(cls.outputs_and_middle))
        return JacobianProducts(replace(objective, fused=engine == "fused"), cls.outputs_and_middle)


@dataclass(frozen=True)
class OutputDifferences:
    """JᵀM (g(θ + tv) - g(θ - tv)) / 2t: no second derivative is needed, and J only in reverse mode."""

    outputs_and_middle: OutputsAndMiddle

    def field(self, objective: Objective, chunk: Chunk, theta: Tensor) -> Tensor:
        """Return g(θ)."""
        with torch.no_grad():
            return self.outputs_and_middle(objective, chunk, objective.space.split(theta))[0]

    def finished(self, objective: Objective, chunk: Chunk, theta: Tensor, along: Tensor) -> Tensor:
        """Return JᵀM times Jv, shape (P,)."""
        leaves = objective.leaves(theta)

        def back() -> Tensor:
            outputs, middle = self.outputs_and_middle(objective, chunk, leaves)
            with torch.no_grad():
                weighed = middle(along.clone())
            slopes = torch.autograd.grad(outputs, list(leaves.values()), weighed, allow_unused=True, materialize_grads=True)
            return objective.space.flatten(slopes)

        return objective.at(theta, back)
