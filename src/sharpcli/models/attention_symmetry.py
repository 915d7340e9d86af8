"""The symmetry of attention: an invertible matrix for the queries of a head is undone by another one for its keys.

The product of a query and a key does not change if the query is multiplied by A and the key by A^-T. In the same way, the
values of a head may be multiplied by B if the columns of the output layer that read them are multiplied by B^-1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sharpcli import streams
from sharpcli.models.attention import outputs, projections
from sharpcli.runtime import generator


class Transformed(NamedTuple):
    """What was changed: the number of attention layers, of their heads of keys, and of layers whose values were changed too."""

    layers: int
    heads: int
    with_values: int


def transform_heads(model: nn.Module, factor: float, seed: int) -> Transformed:
    """Multiply queries, keys, values and output layers of all known attention layers in place by random matrices.

    Args:
        model: The model. Layers whose layout is not known stay as they are.
        factor: Largest singular value of the matrices of queries and values; the smallest is 1 / factor.
        seed: Seed of the matrices.
    """
    tensors, every = dict(model.named_parameters()), [*projections(model), *outputs(model)]
    layers = list(dict.fromkeys(one.layer for one in every if one.kind == "key"))
    heads = values = 0
    with torch.no_grad():
        for number, layer in enumerate(layers):
            own = [one for one in every if one.layer == layer]
            groups = next(one.heads for one in own if one.kind == "key")
            has_output = any(one.kind == "output" for one in own)
            heads, values = heads + groups, values + has_output
            for group in range(groups):
                size = next(one.size for one in own if one.kind == "key") // groups
                first, second = (_matrix(size, factor, seed, number, 2 * group + part) for part in (0, 1))
                turns = {"query": first, "key": torch.linalg.inv(first).T}
                if has_output:
                    turns |= {"value": second, "output": torch.linalg.inv(second).T}
                for one in own:
                    if one.kind in turns:
                        for start in one.starts(group, groups):
                            _turn(tensors[one.tensor], one.axis, start, turns[one.kind])
    return Transformed(len(layers), heads, values)


def _matrix(size: int, factor: float, seed: int, *counters: int) -> Tensor:
    """Return a random matrix (size, size), float64, with singular values from 1 / factor to factor."""
    drawn = torch.randn(2, size, size, generator=generator(seed, streams.HEAD_MATRICES, *counters), dtype=torch.float64)
    left, right = torch.linalg.qr(drawn)[0]
    made: Tensor = left * torch.logspace(-1, 1, size, base=factor, dtype=torch.float64) @ right
    return made


def _turn(tensor: Tensor, axis: int, start: int, matrix: Tensor) -> None:
    """Multiply some entries along an axis by a matrix, in place."""
    part = tensor.narrow(axis, start, len(matrix))
    wide, matrix = part.double(), matrix.to(tensor.device)
    part.copy_(matrix @ wide if axis == 0 else wide @ matrix.T)
