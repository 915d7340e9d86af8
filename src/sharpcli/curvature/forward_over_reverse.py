"""Hessian products by forward differentiation of the gradient along the vector: no stored graphs, can be compiled."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from sharpcli.chunks import Chunk
from sharpcli.inputs import Inputs
from sharpcli.objective import Objective

BACKEND = "inductor"  # Of torch.compile.

_Named = Mapping[str, Tensor]
_Product = Callable[[_Named, _Named, Inputs, Tensor], _Named]


class ForwardOverReverse:
    """Hv as the derivative of the gradient along v; every operation needs a forward derivative as well.

    There is no engine for reverse over forward: with layer normalisation, torch computes wrong values without an error.

    Attributes:
        words: The name of the engine in messages.
        compiled: Whether chunks of the first chunk's size use torch.compile.
    """

    keeps = False

    def __init__(self, objective: Objective, *, compiled: bool = False) -> None:
        """Choose how it runs; nothing is compiled before the first product.

        Args:
            objective: Mean loss over data.
            compiled: Whether chunks of the first chunk's size use torch.compile. Chunks of another size, such as a smaller
                last chunk, are not compiled: one chunk per product does not justify the seconds of a second compilation.
        """
        self._objective = objective
        self._run = _product_of(objective)
        self.compiled = compiled
        self._compiled = compile_whole(self._run, BACKEND) if compiled else None
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in objective.model.modules())
        self._size = max(objective.chunk_sizes, default=0)
        ragged = len(set(objective.chunk_sizes)) > 1
        self.words = "forward over reverse" + (", compiled" + " but for the last chunk" * ragged if compiled else "")

    def differentiate(self, chunk: Chunk, leaves: _Named) -> Tangent:
        """Return a chunk that is ready for products; the cost of a product is the same for every vector."""
        fast = self._compiled if len(chunk.targets) == self._size else None
        parameters = {name: leaf.detach() for name, leaf in leaves.items()}
        return Tangent(fast or self._run, chunk, parameters, self._recurrent)


class Tangent(NamedTuple):
    """One chunk and the parameters at which its gradient is differentiated along vectors."""

    run: _Product
    chunk: Chunk
    parameters: _Named
    recurrent: bool
    slopes: tuple[Tensor, ...] = ()

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:  # noqa: ARG002
        """Return the derivative of the gradient along a vector; nothing is stored."""
        directions = dict(zip(self.parameters, parts, strict=True))
        with _no_onednn(when=self.recurrent):
            products = self.run(self.parameters, directions, self.chunk.inputs, self.chunk.targets)
        return [products[name] for name in self.parameters]

    def saved_bytes(self) -> int:
        """Return 0: it stores nothing except its arguments."""
        return 0


def _product_of(objective: Objective) -> _Product:
    def product(parameters: _Named, directions: _Named, inputs: Inputs, targets: Tensor) -> _Named:
        def slope(point: _Named) -> _Named:
            gradient: _Named = torch.func.grad(lambda p: objective.loss_sum(p, Chunk(0, inputs, targets)))(point)
            return gradient

        along: _Named = torch.func.jvp(slope, (parameters,), (directions,))[1]
        return along

    return product


def compile_whole(run: Any, backend: Any) -> Callable[..., Any]:
    """Return a function that is compiled at its first call, completely or not at all.

    Dynamo stores its compiled versions, at most eight, with the code object, which all functions of one `def` share. So
    each function gets its own code object: compiled versions are freed with the operator, and the ninth checkpoint of a
    run is not refused.
    """
    own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, dynamic=False, fullgraph=True, backend=backend)


@contextmanager
def _no_onednn(*, when: bool) -> Iterator[None]:
    """Turn oneDNN off in the block: its recurrent layers, which torch uses in float32, have no forward derivative."""
    module = cast("Any", torch.backends.mkldnn)
    before = module.enabled
    try:
        if when:
            module.enabled = False
        yield
    finally:
        module.enabled = before
