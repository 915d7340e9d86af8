"""Whether a model works with its queries and keys as attention does: only their products matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sharpcli.models.attention import Projection
from sharpcli.objective import Objective

_SAME = {torch.float32: 1e-4, torch.float64: 1e-9}  # Relative difference of losses that differ by rounding only.
_SPREAD = 0.25  # Differences between the factors of heads.


def is_attention(objective: Objective, found: Sequence[Projection]) -> bool:
    """Return whether the losses stay the same if the queries of each head are multiplied by a factor and the keys divided.

    The product of a query and a key is all that attention uses of both. The factors differ from head to head, so that
    channels of another head, or values in place of keys, would change the losses.
    """
    parameters = {name: tensor.detach() for name, tensor in objective.model.named_parameters()}
    changed = {name: tensor.clone() for name, tensor in parameters.items()}
    groups = {one.layer: one.heads for one in found if one.kind == "key"}
    for one in found:
        if one.kind in ("query", "key"):
            _scale(changed[one.tensor], one, groups.get(one.layer, one.heads))
    plain, other = (_losses(objective, tensors) for tensors in (parameters, changed))
    return float((plain - other).abs().max()) <= _SAME[plain.dtype] * max(float(plain.abs().max()), 1.0)


def _scale(tensor: Tensor, one: Projection, groups: int) -> None:
    """Multiply the queries of each head in place by its factor, or divide the keys; heads of one key have one factor."""
    each = one.size // one.heads
    for head in range(one.heads):
        factor = 1 + _SPREAD * (1 + head * groups // one.heads)
        part = tensor.narrow(one.axis, one.start + head * each, each)
        part.mul_(factor if one.kind == "query" else 1 / factor)


def _losses(objective: Objective, parameters: Mapping[str, Tensor]) -> Tensor:
    few = objective.few()
    with torch.no_grad(), objective.arithmetic():
        return objective.loss_terms(parameters, few)
