"""Copies of modules that belong to whoever made them."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def private_copy(model: _Module) -> _Module:
    """Return a copy of a module that shares nothing with it.

    A tensor that a module has computed and kept, as torch's weight_norm keeps its weight, is copied without its graph, which
    `copy.deepcopy` refuses to copy.
    """
    kept = [part for module in model.modules() for part in vars(module).values() if isinstance(part, Tensor)]
    memo: dict[int, object] = {id(part): part.detach().clone() for part in kept if not part.is_leaf}
    return copy.deepcopy(model, memo)
