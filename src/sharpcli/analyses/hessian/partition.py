"""The diagonal blocks of --per-layer: layers, tensors, or parts of the layers of attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.curvature.blocks import Block, Rows
from sharpcli.models.attention import Projection, projections
from sharpcli.objective import Objective

_SAME = {torch.float32: 1e-4, torch.float64: 1e-9}  # Relative difference of losses that differ by rounding only.
_SPREAD = 0.25  # Differences between the factors of heads.


def partition(kind: str, objective: Objective) -> list[Block]:
    """Return the blocks of the parameters θ, in their order; each parameter belongs to one block.

    Args:
        kind: "layer" (the parameters of a module), "parameter" (each tensor), "projection" (as "layer", but a layer that
            makes the queries, keys and values of attention is divided into these) or "head" (as "projection", and each
            divided by heads).
        objective: Mean loss over data.
    """
    if kind == "parameter":
        return [Block(name, {name: None}) for name in objective.space.names]
    layers = objective.space.groups()
    divided = _known(objective) if kind in ("projection", "head") else []
    blocks: list[Block] = []
    for layer, names in layers.items():
        own = [one for one in divided if one.tensor in names]
        parts: dict[str, dict[str, Rows | None]] = {}
        for one in own:
            each = one.size // one.heads if kind == "head" else one.size
            alone = len({other.kind for other in own}) == 1  # The name of the layer says which it is.
            for number in range(one.size // each):
                words = [] if alone else [one.kind]
                words += [f"head {number + 1}"] if kind == "head" else []
                start = one.start + number * each
                parts.setdefault(" ".join([layer, *words]), {})[one.tensor] = Rows(one.axis, start, start + each)
        blocks += [Block(name, tensors) for name, tensors in parts.items()]
        rest = {name: None for name in names if name not in {one.tensor for one in own}}
        blocks += [Block(layer, rest)] if rest else []
    return blocks


def _known(objective: Objective) -> list[Projection]:
    """Return the projections of attention that are in θ, if the model works with them as attention does."""
    found = projections(objective.model)
    if found and not _is_attention(objective, found):
        progress.warn(
            "The layers of attention of this model keep queries, keys and values in an order that is not known, so they are "
            "not divided."
        )
        return []
    kept = [one for one in found if one.tensor in objective.space.names]
    if not kept:
        progress.warn("No attention layer of a known kind was found, so the blocks are layers.")
    return kept


def _is_attention(objective: Objective, found: Sequence[Projection]) -> bool:
    """Return whether the losses stay the same if the queries of each head are multiplied by a factor and the keys divided.

    The product of a query and a key is all that attention uses of both. The factors differ from head to head, so that
    channels of another head, or values in place of keys, would change the losses.
    """
    parameters = {name: tensor.detach() for name, tensor in objective.model.named_parameters()}
    changed = {name: tensor.clone() for name, tensor in parameters.items()}
    groups = {one.layer: one.heads for one in found if one.kind == "key"}
    for one in found:
        if one.kind != "value":
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


def _losses(objective: Objective, parameters: dict[str, Tensor]) -> Tensor:
    few = objective.few()
    with torch.no_grad(), objective.arithmetic():
        return objective.loss_terms(parameters, few)
