"""Copies of modules, and computations with other weights: the module of the caller is not changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

_Answer = TypeVar("_Answer")
_Module = TypeVar("_Module", bound=nn.Module)


def private_copy(model: _Module) -> _Module:
    """Return a copy of a module that shares nothing with it, also in cases in which `copy.deepcopy` alone fails.

    A computed tensor that a module stores as an attribute, such as the weight of torch's weight_norm, is copied without its
    graph. A random generator is copied with its state. Embeddings of the copy have dense gradients with the same values,
    because sparse gradients cannot be differentiated again.
    """
    memo: dict[int, object] = {}
    for part in (part for module in model.modules() for part in vars(module).values()):
        if isinstance(part, Tensor) and not part.is_leaf:
            memo[id(part)] = part.detach().clone()
        elif isinstance(part, torch.Generator):
            memo[id(part)] = torch.Generator(part.device).set_state(part.get_state())
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False
    return copied


def run_with(model: nn.Module, state: Mapping[str, Tensor], run: Callable[[], _Answer]) -> _Answer:
    """Run a computation while a model has other parameters and buffers, given by name; return its result."""
    names = {f"model.{name}": tensor for name, tensor in state.items()}
    answer: _Answer = functional_call(_Holding(model), names, (run,))
    return answer


class _Holding(nn.Module):
    """A module that contains the model and runs a computation, so that `functional_call` surrounds this computation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[], Any]) -> Any:
        """Return the result of the computation."""
        return run()
