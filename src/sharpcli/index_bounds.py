"""Check of indices before a GPU uses them; on a GPU an index out of range makes the device unusable for the process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


def checked_indices(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which indices out of range raise IndexError on this device.

    On the CPU, torch checks indices itself. On CUDA, a device-side assertion fails, and the process cannot use the device
    any more. Each check waits for the device, so the context is used for a few samples before the main work only.
    """
    return nullcontext() if device.type == "cpu" else CheckedIndices()  # type: ignore[no-untyped-call]


class CheckedIndices(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that checks the indices of nn.Embedding, `tensor[indices]`, gather, scatter, index_select and take.

    Raises:
        IndexError: An index is not below the size of its axis, or is negative; `tensor[indices]` and take also accept
            negative indices down to minus the size.
    """

    def __torch_dispatch__(
        self, function: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Check the indices of a call, then make the call."""
        packet = getattr(function, "overloadpacket", None)
        if packet in (_aten.embedding, _aten._embedding_bag, _aten._embedding_bag_forward_only):
            _require(args[1], len(args[0]), negative=False)
        elif packet in (_aten.index, _aten.index_put, _aten.index_put_, _aten._unsafe_index):
            for axis, indices in enumerate(args[1]):
                if isinstance(indices, Tensor) and indices.dtype not in (torch.bool, torch.uint8):
                    _require(indices, _size(args[0], axis), negative=True)
        elif packet in (_aten.gather, _aten.index_select, _aten.scatter, _aten.scatter_, _aten.scatter_add):
            _require(args[2], _size(args[0], args[1]), negative=False)
        elif packet == _aten.take:
            _require(args[1], args[0].numel(), negative=True)
        return function(*args, **(kwargs or {}))


def _size(tensor: Tensor, axis: int) -> int:
    return tensor.shape[axis] if tensor.ndim else 1


def _require(indices: Tensor, size: int, *, negative: bool) -> None:
    if indices.numel() == 0:
        return
    lowest, highest = (int(end) for end in torch.aminmax(indices))
    if highest >= size or lowest < (-size if negative else 0):
        wrong = highest if highest >= size else lowest
        raise IndexError(f"index out of range: {wrong} in an axis of size {size}")
