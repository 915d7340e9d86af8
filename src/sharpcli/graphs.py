"""Inspection of an autograd graph before it is used: the memory that it holds, and which parts have no second derivative."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from sharpcli.errors import InputError

_Answer = TypeVar("_Answer")


def saved_bytes(run: Callable[[], _Answer], own: Iterable[Tensor]) -> tuple[_Answer, int]:
    """Return the result of a computation, and the bytes that it saves for the backward pass, without those of `own` tensors."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # Without detach, a saved result would keep its own graph alive.

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = run()
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    return answer, sum(size for pointer, size in storages.items() if pointer not in known)


_MISSING = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")
_REFUSED = {
    "use_reentrant=True": (
        "The model uses activation checkpointing with use_reentrant=True, which does not work with torch.autograd.grad.",
        "Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False).",
    ),
    "@once_differentiable": (
        "The model has a backward function of its own that is marked once_differentiable, so it has no second derivative.",
        "Write that backward in operations that torch can differentiate.",
    ),
    "modified by an inplace operation": (
        "The model overwrites a tensor in place that its derivative needs.",
        "Write that operation without its trailing underscore, or copy the tensor first.",
    ),
}


@contextmanager
def explained() -> Iterator[None]:
    """Replace errors of autograd inside the block by errors that name the cause and a remedy.

    Raises:
        InputError: An operation has no derivative, or the model does something that autograd does not allow.
    """
    try:
        yield
    except RuntimeError as error:
        missing = _MISSING.search(str(error))
        if missing:
            order, name = ("second ", missing[1].removesuffix("_backward")) if "_backward" in missing[1] else ("", missing[1])
            raise InputError(
                f"The model uses the operation '{name.strip('_')}', for which torch has no {order}derivative.",
                "Replace it by operations that torch can differentiate.",
            ) from error
        for words, (message, hint) in _REFUSED.items():
            if words in str(error):
                raise InputError(message, hint) from error
        raise


def require_twice_differentiable(slopes: Iterable[Tensor]) -> None:
    """Refuse gradients that pass through an operation without a second derivative.

    Autograd raises an error only if it has to differentiate through the operation, and otherwise omits it silently.

    Args:
        slopes: The gradients, attached to their graph.

    Raises:
        InputError: There is such an operation.
    """
    for node in _nodes(slopes):
        if type(node).__name__ in ("Error", "NotImplemented"):
            raise InputError(*_REFUSED["@once_differentiable"])


def without_curvature(loss: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the leaves for which the second derivative of a loss is zero by construction, by name, each with the reason.

    "unused": the loss does not depend on the leaf. "linear": the gradient of the leaf does not depend on any leaf. "padding",
    under the name NAME[i]: row i of an embedding, whose gradient torch sets to 0 (`padding_idx`), if the embedding has no
    other use.

    Args:
        loss: A scalar, attached to its graph.
        leaves: Leaf tensors by name.
    """
    padding = padding_rows(loss, leaves)
    slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, allow_unused=True)
    dead = {}
    for name, slope in zip(leaves, slopes, strict=True):
        if slope is None or not slope.requires_grad:
            dead[name] = "unused" if slope is None else "linear"
        elif name in padding:
            dead[f"{name}[{padding[name]}]"] = "padding"
    return dead


def padding_rows(loss: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the padding row of each leaf, by name, that is used only in embedding look-ups with that same padding row."""
    users: dict[int, set[int]] = {}
    for node in _nodes([loss]):
        for inner, _ in node.next_functions:
            if hasattr(inner, "variable"):
                looked_up = type(node).__name__.startswith("EmbeddingBackward")
                users.setdefault(id(inner.variable), set()).add(int(node._saved_padding_idx) if looked_up else -1)
    rows = {name: users.get(id(leaf), set()) for name, leaf in leaves.items()}
    # Without padding, torch saves -1; some versions save it as an unsigned number.
    return {name: min(row) for name, row in rows.items() if len(row) == 1 and 0 <= min(row) < len(leaves[name])}


def leaves_of(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the leaf tensors that require gradients in the graphs of some tensors, each once."""
    return (node.variable for node in _nodes(tensors) if hasattr(node, "variable"))


def _nodes(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """Yield all nodes of the graphs of some tensors, each once."""
    waiting: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        following = {inner for inner, _ in node.next_functions if inner is not None} - seen
        seen |= following
        waiting += following
