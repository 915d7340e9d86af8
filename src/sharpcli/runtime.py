"""Where and how exactly numbers are computed: device, precision, seeds, and what to record about them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy
import scipy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpcli import __version__
from sharpcli.errors import InputError, SettingsError


@dataclass(frozen=True)
class Runtime:
    """A device and the floating-point type of parameters and data on it."""

    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def open(device: str = "auto", dtype: str = "float32") -> Runtime:
        """Choose the device; "auto" takes CUDA where there is one, else the CPU; "cuda:1" is the second such device.

        Raises:
            InputError: The device asked for is not on this machine.
            SettingsError: The device does not have the precision asked for.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        kind, _, number = device.partition(":")
        count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
        if int(number or 0) >= count:
            last = f" The last one is cuda:{count - 1}." if kind == "cuda" and count else ""
            raise InputError(f"There is no device {device} on this machine.{last}", "Use --device auto or --device cpu.")
        if device == "mps" and dtype == "float64":
            raise SettingsError("The mps device has no float64.", "Use --device cpu for --dtype float64.")
        return Runtime(torch.device(device), getattr(torch, dtype))

    @property
    def accumulator(self) -> torch.dtype:
        """The type that sums are kept in: float64 wherever the device has it."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def free_cached(self) -> None:
        """Give back what the allocator of the device keeps for later."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def exact_arithmetic(*, recurrent: bool = False) -> Iterator[None]:
    """Turn off TF32 and the kernels that have no second derivative; put everything back afterwards.

    TF32 keeps ten bits of mantissa, which costs second derivatives about three digits. Fused
    attention, and cuDNN's recurrent layers if there are any, cannot be differentiated twice.
    """
    switches: list[tuple[Any, str, object]] = [(module, name, value) for module, name, value in _tf32_switches()]
    if recurrent:
        switches.append((torch.backends.cudnn, "enabled", False))
    before = [getattr(module, name) for module, name, _ in switches]
    try:
        for module, name, value in switches:
            setattr(module, name, value)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for (module, name, _), value in zip(switches, before, strict=True):
            setattr(module, name, value)


def _tf32_switches() -> list[tuple[Any, str, object]]:
    """Return what turns TF32 off: by the present interface of torch where there is one, since the two must not be mixed."""
    matmul, cudnn = torch.backends.cuda.matmul, cast("Any", torch.backends.cudnn)
    if hasattr(matmul, "fp32_precision"):
        return [(part, "fp32_precision", "ieee") for part in (matmul, cudnn.conv, cudnn.rnn)]
    return [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]


def generator(*seeds: int) -> torch.Generator:
    """Return a CPU generator for a tuple of seeds: the same numbers on every device.

    The tuple is mixed by NumPy's `SeedSequence`, so (0, 1) and (1, 0) are unrelated streams; its
    length comes first because trailing zeros would not count.
    """
    state = numpy.random.SeedSequence((len(seeds), *seeds)).generate_state(1, numpy.uint64)[0]
    return torch.Generator().manual_seed(int(state >> numpy.uint64(1)))


def gaussian(theta: torch.Tensor, *seeds: int) -> torch.Tensor:
    """Return independent N(0, 1) numbers of the shape and type of θ, the same on every device."""
    return torch.randn(len(theta), generator=generator(*seeds)).to(theta.device, theta.dtype)


def provenance(runtime: Runtime | None = None) -> dict[str, object]:
    """Return what a reader needs to know about the machine and the versions behind a number."""
    record: dict[str, object] = {
        "sharpcli": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "command_line": sys.argv,
    }
    if runtime is not None:
        cuda = runtime.device.type == "cuda"
        record["device"] = torch.cuda.get_device_name(runtime.device) if cuda else runtime.device.type
        record["dtype"] = str(runtime.dtype).removeprefix("torch.")
        record["tf32"] = False
    return record
