"""Where the queries, keys and values of attention layers are in the parameters of a model, head by head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor, nn

_HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads")  # Names for the number of heads.
_FUSED = ("qkv", "c_attn")  # A layer with the queries, then the keys, then the values: timm and GPT, GPT-2 of transformers.
_APART = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"), ("to_q", "to_k", "to_v"))
KINDS = ("query", "key", "value")
_OUTPUTS = ("out_proj", "proj", "o_proj", "c_proj", "out_lin")  # Names of the layer that reads the values of all heads.


class Projection(NamedTuple):
    """The part of a parameter that makes the queries, keys or values of an attention layer.

    Attributes:
        layer: The name of the attention layer.
        kind: One of `KINDS`, or "output" for the layer that reads the values of all heads.
        tensor: The name of the parameter.
        axis: The axis whose entries are the channels of the queries, keys or values.
        start: The first of these entries.
        size: Their number; those of one head are adjacent.
        heads: Number of heads, a divisor of `size`. Keys and values may have fewer heads than queries.
    """

    layer: str
    kind: str
    tensor: str
    axis: int
    start: int
    size: int
    heads: int

    def starts(self, group: int, groups: int) -> list[int]:
        """Return where the heads begin that share the keys of one of several groups; each has `size` / `heads` entries."""
        each = self.size // self.heads
        return [self.start + head * each for head in range(self.heads) if head * groups // self.heads == group]


def projections(model: nn.Module) -> list[Projection]:
    """Return the projections of all attention layers whose layout is known, with their biases.

    Known are `nn.MultiheadAttention`; layers `qkv` or `c_attn` that hold the queries, then the keys, then the values; and three
    layers with one of the usual names, such as `q_proj`, `k_proj` and `v_proj`. In all of them the channels of a head are
    adjacent. A layer of another library with such a name may be made in another way; see `analyses.hessian.partition` for
    the check.
    """
    return [found for name, module in model.named_modules() for found in _of_layer(name, module)]


def outputs(model: nn.Module) -> list[Projection]:
    """Return, for each attention layer with known projections, the weight of the output layer, if its name is a usual one."""
    queries = {one.layer: one for one in projections(model) if one.kind == "query"}
    modules, found = dict(model.named_modules()), []
    for name, query in queries.items():
        prefix = f"{name}." if name else ""
        for layer in _OUTPUTS:
            module = modules.get(prefix + layer)
            weight = getattr(module, "weight", None)
            if not isinstance(weight, Tensor) or weight.ndim != 2:
                continue
            axis = 1 if isinstance(module, nn.Linear) else 0  # Conv1D of transformers stores the transpose.
            if weight.shape[axis] == query.size:
                found.append(Projection(name, "output", f"{prefix}{layer}.weight", axis, 0, query.size, query.heads))
                break
    return found


def _of_layer(name: str, module: nn.Module) -> Iterator[Projection]:
    own = {part: tensor for part, tensor in module.named_parameters() if part.count(".") <= 1}
    heads = next((getattr(module, word) for word in _HEADS if isinstance(getattr(module, word, None), int)), 0)
    if heads < 1:
        return
    prefix = f"{name}." if name else ""
    found = _of_torch if isinstance(module, nn.MultiheadAttention) else _of_library
    for one in found(module, own, heads):
        yield one._replace(layer=name, tensor=prefix + one.tensor)


def _of_torch(_: nn.Module, own: Mapping[str, Tensor], heads: int) -> Iterator[Projection]:
    for part in ("in_proj_weight", "in_proj_bias"):
        if part in own:
            yield from _thirds(part, own[part], 0, heads)
    for kind in KINDS:
        part = f"{kind[0]}_proj_weight"
        if part in own:
            yield Projection("", kind, part, 0, 0, len(own[part]), heads)


def _of_library(module: nn.Module, own: Mapping[str, Tensor], heads: int) -> Iterator[Projection]:
    for layer in _FUSED:
        weight, bias = own.get(f"{layer}.weight"), own.get(f"{layer}.bias")
        if weight is None or weight.ndim != 2:
            continue
        axis = 0 if isinstance(getattr(module, layer), nn.Linear) else 1  # Conv1D of transformers stores the transpose.
        if weight.shape[axis] == 3 * weight.shape[1 - axis]:
            yield from _thirds(f"{layer}.weight", weight, axis, heads)
            if bias is not None:
                yield from _thirds(f"{layer}.bias", bias, 0, heads)
    for layers in _APART:
        weights = [own[f"{layer}.weight"] for layer in layers if f"{layer}.weight" in own]
        if len(weights) < len(KINDS) or any(weight.ndim != 2 for weight in weights):
            continue
        channels = len(weights[0]) // heads
        for kind, layer in zip(KINDS, layers, strict=True):
            for part in (f"{layer}.weight", f"{layer}.bias"):
                if part in own and channels and len(own[part]) % channels == 0:
                    yield Projection("", kind, part, 0, 0, len(own[part]), len(own[part]) // channels)


def _thirds(tensor: str, value: Tensor, axis: int, heads: int) -> Iterator[Projection]:
    size = value.shape[axis] // 3
    for number, kind in enumerate(KINDS):
        if size % heads == 0:
            yield Projection("", kind, tensor, axis, number * size, size, heads)
