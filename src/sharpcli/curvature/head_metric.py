"""A metric of the weights that is invariant under the symmetry of attention, and matrices in its coordinates.

The queries Q and keys K of a head matter by QᵀK only, and its values V and output weights W_O by W_O V. So changes are measured
by how they change these products: g(δQ, δK) = ‖δQᵀK‖² + ‖QᵀδK‖², and the same for W_O V. Under Q → AQ, K → A^-T K both change
alike, so that g stays. A bias is one more column. All other weights have the Euclidean metric.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli.curvature.attention_check import is_attention
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.errors import InputError
from sharpcli.models.attention import Projection, outputs, projections
from sharpcli.objective import Objective
from sharpcli.parameters import ParameterSpace

_PARTNER = {"query": "key", "key": "query", "value": "output", "output": "value"}
_LEAST = 1e-10  # Smallest eigenvalue of a metric relative to its largest; with less, weights are linearly dependent.


@dataclass(frozen=True, eq=False)
class _Turn:
    """M^{-1/2}, shape (d, d), float64, for the d channels of one head in one tensor."""

    tensor: str
    axis: int
    start: int
    root: Tensor


@dataclass(frozen=True, eq=False)
class HeadMetric:
    """S, the inverse square root of the metric g at the weights θ, as a symmetric map on vectors (P,).

    Attributes:
        space: The layout of θ.
        turns: The parts of S that are not the identity.
        heads: Number of heads of queries whose weights have the metric of products.
    """

    space: ParameterSpace
    turns: tuple[_Turn, ...]
    heads: int

    @staticmethod
    def of(objective: Objective, theta: Tensor) -> HeadMetric:
        """Return the metric at θ, shape (P,).

        Raises:
            InputError: Weights of a head are linearly dependent.
        """
        space, found = objective.space, projections(objective.model)
        if not found or not is_attention(objective, found):
            return HeadMetric(space, (), 0)
        tensors = {name: part.detach() for name, part in objective.model.named_parameters()} | space.split(theta)
        every = [*found, *outputs(objective.model)]
        turns = [
            _Turn(one.tensor, one.axis, start, root)
            for layer in dict.fromkeys(one.layer for one in found)
            for one, start, root in _roots([one for one in every if one.layer == layer], tensors)
            if one.tensor in space.names
        ]
        return HeadMetric(
            space, tuple(turns), sum(one.heads for one in found if one.kind == "query" and _is_matrix(one, tensors))
        )

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return S v for a vector v (P,)."""
        answer = vector.clone()
        parts = self.space.split(answer)
        for turn in self.turns:
            part = parts[turn.tensor].narrow(turn.axis, turn.start, len(turn.root))
            wide, root = part.double(), turn.root.to(part.device)
            part.copy_(root @ wide if turn.axis == 0 else wide @ root)
        return answer


class MetricOperator:
    """S A S for an operator A, as a symmetric map on vectors (P,)."""

    def __init__(self, whole: CurvatureOperator, metric: HeadMetric) -> None:
        self._whole, self._metric = whole, metric

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return self._whole.shape

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors."""
        return self._whole.dtype

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self._whole.device

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return S A S v for a vector v (P,)."""
        return self._metric @ (self._whole @ (self._metric @ vector))


def _is_matrix(one: Projection, tensors: dict[str, Tensor]) -> bool:
    return tensors[one.tensor].ndim == 2


def _roots(own: list[Projection], tensors: dict[str, Tensor]) -> list[tuple[Projection, int, Tensor]]:
    """Return, for each head of each projection of a layer, where it begins and M^{-1/2}."""
    groups = next(one.heads for one in own if one.kind == "key")
    kinds = {one.kind for one in own}
    made = []
    for group in range(groups):
        grams = {kind: _gram([one for one in own if one.kind == kind], tensors, group, groups) for kind in kinds}
        for one in own:
            if _PARTNER[one.kind] in kinds:
                root = _inverse_root(grams[_PARTNER[one.kind]], one)
                made += [(one, start, root) for start in one.starts(group, groups)]
    return made


def _gram(own: list[Projection], tensors: dict[str, Tensor], group: int, groups: int) -> Tensor:
    """Return Σ W Wᵀ over the heads of a group, shape (d, d), with W (d, ...) the weights and the bias of a head."""
    total: Tensor | None = None
    for one in own:
        for start in one.starts(group, groups):
            part = tensors[one.tensor].narrow(one.axis, start, one.size // one.heads).detach().cpu().double()
            rows = part.movedim(one.axis, 0).flatten(1) if part.ndim > 1 else part[:, None]
            total = rows @ rows.T if total is None else total + rows @ rows.T
    assert total is not None
    return total


def _inverse_root(gram: Tensor, one: Projection) -> Tensor:
    values, vectors = torch.linalg.eigh(gram)
    if not float(values[0]) > _LEAST * float(values[-1]):
        raise InputError(
            f"The weights of a head in '{one.layer}' are linearly dependent, so products do not measure '{one.tensor}'.",
            "Use another measure for this checkpoint.",
        )
    root: Tensor = vectors / values.sqrt() @ vectors.T
    return root
