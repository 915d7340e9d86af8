"""What the card does at best: matrix products, convolutions, copies."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import arithmetic, median

SECONDS = 5


def measure(setting: Setting) -> dict[str, Any]:
    """Return operations, and bytes read and written, a second, each the best of a few shapes."""
    device, side = setting.device, 256 if setting.small else 8192
    found: dict[str, Any] = {}
    kinds = (("float32", torch.float32, False), ("tf32", torch.float32, True),
             ("bfloat16", torch.bfloat16, False), ("float64", torch.float64, False))  # fmt: skip
    for name, dtype, tf32 in kinds:
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        with arithmetic(tf32=tf32), torch.no_grad():
            found[f"matmul {name}"] = 2.0 * side**3 / median(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
            best = 0.0
            for channels, edge in ((64, 32), (128, 16), (256, 8), (512, 4)):
                count = 8 if setting.small else 2048
                x = torch.randn(count, channels, edge, edge, device=device, dtype=dtype)
                w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
                for layout in (torch.contiguous_format, torch.channels_last):
                    x, w = x.to(memory_format=layout), w.to(memory_format=layout)
                    seconds = median(lambda x=x, w=w: functional.conv2d(x, w, padding=1), device, repeats=3)  # type: ignore[misc]
                    best = max(best, 2.0 * count * edge**2 * channels**2 * 9 / seconds)
            found[f"conv {name}"] = best
    x = torch.randn(2**20 if setting.small else 2**30, device=device)
    y = torch.empty_like(x)
    found["bytes"] = 2.0 * x.nbytes / median(lambda: y.copy_(x), device)
    return found
