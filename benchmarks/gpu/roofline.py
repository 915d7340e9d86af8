"""How long an autograd program takes at best on a device: every operation at the card's best rate for it.

An operation takes at least its floating-point operations over the best rate of matrix products or convolutions, and at
least the bytes of its arguments and answers over the best rate of a copy; the longer of the two is its least time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up, operation by operation, what `run` makes the device do.

    Attributes:
        flops: Floating-point operations, by "matmul" and "conv".
        bytes: Read and written by all operations.
        seconds: Least time of all operations, one after the other.
        launches: Operations that are no view.
    """

    def __init__(self, rates: dict[str, float], arithmetic: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rates = {kind: rates[f"{kind} {arithmetic}"] for kind in ("matmul", "conv")}
        self._copy = rates["bytes"]
        self.flops = {"matmul": 0.0, "conv": 0.0}
        self.bytes = self.seconds = 0.0
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and add its work."""
        answer = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)]
        if func.is_view or (made and not func._schema.is_mutable and _is_alias(made, given)):
            return answer
        self.launches += 1
        moved = float(sum(leaf.nbytes for leaf in (*given, *made)))
        self.bytes += moved
        least = moved / self._copy
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            kind = "conv" if "conv" in str(func) else "matmul"
            flops = float(count(*args, **(kwargs or {}), out_val=answer))
            self.flops[kind] += flops
            least = max(least, flops / self._rates[kind])
        self.seconds += least
        return answer


def _is_alias(made: list[Tensor], given: list[Tensor]) -> bool:
    """Tell whether an operation has only given back what it was given."""
    owners = {leaf.untyped_storage().data_ptr() for leaf in given}
    return all(leaf.untyped_storage().data_ptr() in owners for leaf in made)


def least_seconds(run: Callable[[], object], rates: dict[str, float], arithmetic: str) -> Work:
    """Return the work of one run."""
    work = Work(rates, arithmetic)
    with work:
        run()
    return work


def to_dict(work: Work) -> dict[str, Any]:
    """Return it as plain values."""
    return {"matmul": work.flops["matmul"], "conv": work.flops["conv"], "bytes": work.bytes,
            "limit": work.seconds, "launches": work.launches}  # fmt: skip
