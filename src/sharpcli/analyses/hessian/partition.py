"""The diagonal blocks of --per-layer: layers, tensors, or parts of the layers of attention."""

from __future__ import annotations

from sharpcli import progress
from sharpcli.curvature.attention_check import is_attention
from sharpcli.curvature.blocks import Block, Rows
from sharpcli.models.attention import Projection, projections
from sharpcli.objective import Objective


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
    if found and not is_attention(objective, found):
        progress.warn(
            "The layers of attention of this model keep queries, keys and values in an order that is not known, so they are "
            "not divided."
        )
        return []
    kept = [one for one in found if one.tensor in objective.space.names]
    if not kept:
        progress.warn("No attention layer of a known kind was found, so the blocks are layers.")
    return kept
