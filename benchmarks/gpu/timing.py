"""How long work takes on a device that works by itself: the host waits before and after."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def wait(device: str) -> None:
    """Wait until the device has done all that it was asked to."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def once(run: Callable[[], object], device: str) -> float:
    """Return the seconds of one run."""
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def median(run: Callable[[], object], device: str, *, repeats: int = 5, warm: int = 1) -> float:
    """Return the median of the seconds of some runs, after others that count for nothing."""
    for _ in range(warm):
        run()
    return statistics.median(once(run, device) for _ in range(repeats))


@contextmanager
def arithmetic(*, tf32: bool) -> Iterator[None]:
    """Let float32 products be exact, or of ten bits."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    new = hasattr(matmul, "fp32_precision")
    parts = [matmul, cudnn.conv, cudnn.rnn] if new else [matmul, cudnn]  # type: ignore[attr-defined]
    name, value = ("fp32_precision", "tf32" if tf32 else "ieee") if new else ("allow_tf32", tf32)
    before = [getattr(part, name) for part in parts]
    try:
        for part in parts:
            setattr(part, name, value)
        yield
    finally:
        for part, was in zip(parts, before, strict=True):
            setattr(part, name, was)
