"""What the machine can do: its best measured rates of float32 matrix products and convolutions."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

_MATRICES = ((2048, 2048, 2048), (2000, 784, 512), (1024, 576, 576))  # Rows, inner, columns: large, and like the nets'.
_CONVOLUTIONS = ((16, 64, 32), (16, 128, 16), (16, 256, 8))  # Samples, channels in and out, side; with 3x3 kernels.


class Rates:
    """The best rates seen so far, in floating-point operations a second; `look` again beside whatever is timed."""

    def __init__(self) -> None:
        self.matmul = self.conv = 0.0
        self.matmul_by = self.conv_by = ""
        self._matmuls = [run for shape in _MATRICES for run in _matrix_products(*shape)]
        self._convs = [_convolution(*shape) for shape in _CONVOLUTIONS]

    @torch.no_grad()
    def look(self, repeats: int = 3) -> None:
        """Time each kernel some times, and remember the fastest."""
        for words, flops, run in self._matmuls:
            rate = flops / _fastest(run, repeats)
            if rate > self.matmul:
                self.matmul, self.matmul_by = rate, words
        for words, flops, run in self._convs:
            rate = flops / _fastest(run, repeats)
            if rate > self.conv:
                self.conv, self.conv_by = rate, words

    def seconds(self, matmul_flops: float, conv_flops: float) -> float:
        """Return how long so many operations take at these rates."""
        return matmul_flops / self.matmul + conv_flops / self.conv

    def to_dict(self) -> dict[str, object]:
        """Return the rates with the kernels they were reached by."""
        return {"matmul": self.matmul, "matmul_by": self.matmul_by, "conv": self.conv, "conv_by": self.conv_by}


_Kernel = tuple[str, float, Callable[[], object]]


def _matrix_products(rows: int, inner: int, columns: int) -> list[_Kernel]:
    """Return one matrix product by torch.mm (MKL in most builds) and, where torch has it, by oneDNN."""
    a, b, flops = torch.randn(rows, inner), torch.randn(columns, inner), 2.0 * rows * inner * columns
    shape = f"{rows}x{inner}x{columns}"
    found: list[_Kernel] = [(f"torch.mm {shape}", flops, lambda: torch.mm(a, b.T))]
    try:
        linear = torch.ops.mkldnn._linear_pointwise
        linear(a, b, None, "none", [], "")
    except (AttributeError, RuntimeError):  # No oneDNN in this build.
        return found
    return [*found, (f"oneDNN {shape}", flops, lambda: linear(a, b, None, "none", [], ""))]


def _convolution(samples: int, channels: int, side: int) -> _Kernel:
    images, weights = torch.randn(samples, channels, side, side), torch.randn(channels, channels, 3, 3)
    flops = 2.0 * samples * side**2 * channels**2 * 9
    return f"3x3 {samples}x{channels}x{side}x{side}", flops, lambda: functional.conv2d(images, weights, padding=1)


def _fastest(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
