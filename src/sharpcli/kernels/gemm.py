"""Matrix products by oneDNN where torch's own go by an MKL that leaves half of the processor idle.

On processors of AMD, MKL uses vectors half as long as those they have; oneDNN, which torch brings along for convolutions,
does not care who made them. How much that is worth differs between models (1.1 to 2.2 times was seen), so it is measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpcli.kernels.bilinear import Grads

_WORTH = 1.25  # Times as fast, for another library to be worth its risk.
_SIZE, _REPEATS = 512, 5


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x wᵀ + b of x (..., I) and w (O, I)."""
    answer: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return answer


class MatrixProduct:
    """The map of a linear layer, x wᵀ + b with x (..., I), w (O, I) and b (O,), in float32 on the CPU."""

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x wᵀ + b."""
        return _onednn(inputs, weight, bias)

    def adjoints(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Grads:
        """Return g w, gᵀx and Σ g, with g and x as tables of rows where rows are summed over."""
        rows = slope.reshape(-1, slope.shape[-1])
        return (
            _onednn(slope, weight.t(), None) if wanted[0] else None,
            _onednn(rows.t(), inputs.reshape(-1, inputs.shape[-1]).t(), None) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )

    def spread(self, shift: Tensor, slope: Tensor) -> Tensor:
        """Return numbers (O,) for each row of an answer."""
        return shift.expand_as(slope)


def applies(inputs: Tensor, weight: Tensor) -> bool:
    """Return whether a product of these is one that oneDNN is to make here."""
    plain = all(part.device.type == "cpu" and part.dtype == torch.float32 and part.numel() for part in (inputs, weight))
    return plain and inputs.ndim > 1 and weight.ndim == 2 and is_faster()


@functools.cache
def is_faster() -> bool:
    """Measure, once in a process, whether oneDNN multiplies clearly faster than what torch uses."""
    mkldnn: Any = torch.backends.mkldnn
    if not mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    first, second = torch.ones(_SIZE, _SIZE), torch.ones(_SIZE, _SIZE)
    usual, other = _seconds(lambda: first @ second.t()), _seconds(lambda: _onednn(first, second, None))
    return usual > _WORTH * other


def _seconds(run: Callable[[], Tensor]) -> float:
    """Return the shortest of a few times that something took."""
    moments = []
    with torch.no_grad():
        for _ in range(_REPEATS):
            began = time.perf_counter()
            run()
            moments.append(time.perf_counter() - began)
    return min(moments)
