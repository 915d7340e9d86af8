"""Hessian products by a traced gradient, which torch has reduced to the operations that depend on the vector."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.fx.experimental.const_fold import FoldedGraphModule

from sharpcli.chunks import Chunk
from sharpcli.curvature.forward_over_reverse import compile_whole
from sharpcli.inputs import tensors_in
from sharpcli.objective import Objective

BACKEND = "inductor"  # Of torch.compile.

_Named = Mapping[str, Tensor]


class Linearized:
    """The linear map v -> Hv itself, traced once for each chunk, which takes seconds, and then only evaluated.

    In-place operations are removed from the gradient first. Otherwise torch.func.linearize gives wrong products from the
    second vector on if a network adds its inputs in place, such as the residual networks of torchvision.

    Attributes:
        compiled: Whether each traced map goes through torch.compile, which takes seconds more for each chunk.
    """

    keeps = True

    def __init__(self, objective: Objective, *, compiled: bool = False) -> None:
        self._objective = objective
        self.compiled = compiled

    @property
    def words(self) -> str:
        """The name of the engine in messages."""
        return "linearized gradient" + ", compiled" * self.compiled

    def differentiate(self, chunk: Chunk, leaves: _Named) -> LinearMap:
        """Trace the derivative of a chunk's gradient."""

        def slope(point: _Named) -> _Named:
            gradient: _Named = torch.func.grad(lambda p: self._objective.loss_sum(p, chunk))(point)
            return gradient

        parameters = {name: leaf.detach() for name, leaf in leaves.items()}
        with warnings.catch_warnings():  # The tracer warns about operations that it does not know.
            warnings.simplefilter("ignore")
            along = torch.func.linearize(torch.func.functionalize(cast("Any", slope)), parameters)[1]
        size = _folded_bytes(along, (*parameters.values(), *tensors_in(chunk.inputs), chunk.targets))

        def run(directions: _Named) -> _Named:  # The compiler treats functions of torch differently.
            products: _Named = along(directions)
            return products

        return LinearMap(list(parameters), compile_whole(run, BACKEND) if self.compiled else run, size)


class LinearMap(NamedTuple):
    """The map v -> Hv of one chunk, summed over its loss terms."""

    names: list[str]
    along: Callable[[_Named], _Named]
    size: int
    slopes: tuple[Tensor, ...] = ()

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:  # noqa: ARG002
        """Return the product; the map can always be used again."""
        products = self.along(dict(zip(self.names, parts, strict=True)))
        return [products[name] for name in self.names]

    def saved_bytes(self) -> int:
        """Return the number of bytes that the traced map holds."""
        return self.size


def _folded_bytes(along: Callable[..., Any], own: Iterable[Tensor]) -> int:
    """Compute the constants of a traced map now, and return their size in bytes without `own` tensors.

    By default the map computes them at the first product, which is too late for the compiler and for counting bytes.
    """
    traced = [part for part in inspect.getclosurevars(along).nonlocals.values() if isinstance(part, torch.nn.Module)]
    for module in traced:
        if isinstance(module, FoldedGraphModule) and not module.has_folding_been_run:
            module.run_folding()
    parts = [part for module in traced for part in module.modules()]
    held = [tensor for part in parts for tensor in vars(part).values() if isinstance(tensor, Tensor)]
    held += [tensor for module in traced for tensor in (*module.parameters(), *module.buffers())]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in held)}
    return sum(sizes.values()) - sum(sizes.pop(tensor.untyped_storage().data_ptr(), 0) for tensor in own)
