"""Matrix products by oneDNN, if they are faster than those of torch by MKL.

On AMD processors, MKL uses vectors of half the available width. oneDNN, which torch contains for convolutions, uses the full
width on any processor. It was 1.1 to 2.2 times as fast, depending on the processor model, so the speed is measured first.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpcli.kernels.bilinear import Grads

_WORTH = 1.25  # oneDNN is used if it is more than this many times as fast.
_SIZE, _REPEATS = 512, 5


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x wᵀ + b, shape (..., O), for x (..., I) and w (O, I)."""
    answer: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return answer


class MatrixProduct:
    """The map of a linear layer, x wᵀ + b with x (..., I), w (O, I) and b (O,), in float32 on the CPU."""

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x wᵀ + b."""
        return _onednn(inputs, weight, bias)

    def adjoints(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Grads:
        """Return g w, gᵀx and Σ g, or None if not wanted; in the last two, all axes except the last are flattened to rows."""
        rows = slope.reshape(-1, slope.shape[-1])
        return (
            _onednn(slope, weight.t(), None) if wanted[0] else None,
            _onednn(rows.t(), inputs.reshape(-1, inputs.shape[-1]).t(), None) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )

    def spread(self, shift: Tensor, slope: Tensor) -> Tensor:
        """Return numbers (O,) expanded to the shape of g, (..., O)."""
        return shift.expand_as(slope)


def applies(inputs: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN should compute the product of these tensors on this machine."""
    plain = all(part.device.type == "cpu" and part.dtype == torch.float32 and part.numel() for part in (inputs, weight))
    measured = not torch.are_deterministic_algorithms_enabled()  # What is faster may be another one in the next run.
    return plain and measured and inputs.ndim > 1 and weight.ndim == 2 and is_faster()


@functools.cache
def is_faster() -> bool:
    """Return whether oneDNN multiplies clearly faster than the library that torch uses; measured once per process."""
    mkldnn: Any = torch.backends.mkldnn
    if not mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    first, second = torch.ones(_SIZE, _SIZE), torch.ones(_SIZE, _SIZE)
    usual, other = _seconds(lambda: first @ second.t()), _seconds(lambda: _onednn(first, second, None))
    return usual > _WORTH * other


def _seconds(run: Callable[[], Tensor]) -> float:
    """Return the shortest time of a few runs of a function, in seconds."""
    moments = []
    with torch.no_grad():
        for _ in range(_REPEATS):
            began = time.perf_counter()
            run()
            moments.append(time.perf_counter() - began)
    return min(moments)
