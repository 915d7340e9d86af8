"""Device, precision and random numbers of all computations, and the record of them in results."""

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

from sharpcli import __version__, launch, processes
from sharpcli.errors import InputError, SettingsError


@dataclass(frozen=True)
class Runtime:
    """A device and the floating-point type of parameters and data on it."""

    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def open(device: str = "auto", dtype: str = "float32") -> Runtime:
        """Return the runtime for a device; "auto" is CUDA if available, else the CPU; "cuda:1" is the second CUDA device.

        With several processes, each uses the CUDA device with its number on the machine.

        Raises:
            InputError: The requested device is not on this machine.
            SettingsError: The device does not support the requested precision, or several processes.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if processes.current().size > 1:
            device = _device_of_process(device)
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
        """The type of sums: float64, or float32 on MPS, which has no float64."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def synchronize(self) -> None:
        """Wait until the device has finished all operations."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def free_cached(self) -> None:
        """Release the unused memory that torch's CUDA allocator caches."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _device_of_process(device: str) -> str:
    """Return the device that this process uses of the requested kind of device.

    Raises:
        SettingsError: Several processes cannot use this device.
    """
    if device == "cuda":
        return f"cuda:{launch.local_rank()}"
    if device != "cpu":
        raise SettingsError(f"Several processes cannot use the device {device}.", "Use --device cuda or --device cpu.")
    return device


@contextmanager
def exact_arithmetic(*, recurrent: bool = False) -> Iterator[None]:
    """Turn off TF32 and the kernels that have no second derivative inside the block, and restore the settings afterwards.

    TF32 has a mantissa of ten bits, so second derivatives lose about three digits. Fused attention and the recurrent layers
    of cuDNN cannot be differentiated twice.

    Args:
        recurrent: Whether the model has recurrent layers; only then cuDNN is turned off.
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
    """Return the attributes, with values, that turn TF32 off: of the newer interface of torch if it exists; never of both."""
    matmul, cudnn = torch.backends.cuda.matmul, cast("Any", torch.backends.cudnn)
    if hasattr(matmul, "fp32_precision"):
        return [(part, "fp32_precision", "ieee") for part in (matmul, cudnn.conv, cudnn.rnn)]
    return [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]


def generator(*seeds: int) -> torch.Generator:
    """Return a CPU generator for a tuple of seeds, so that random numbers do not depend on the device.

    NumPy's `SeedSequence` mixes the tuple, so (0, 1) and (1, 0) give unrelated streams. The length of the tuple is put before
    it, because `SeedSequence` ignores trailing zeros.
    """
    state = numpy.random.SeedSequence((len(seeds), *seeds)).generate_state(1, numpy.uint64)[0]
    return torch.Generator().manual_seed(int(state >> numpy.uint64(1)))


def gaussian(theta: torch.Tensor, *seeds: int) -> torch.Tensor:
    """Return independent N(0, 1) numbers with the shape (P,), type and device of θ, equal on every device."""
    return torch.randn(len(theta), generator=generator(*seeds)).to(theta.device, theta.dtype)


def provenance(runtime: Runtime | None = None) -> dict[str, object]:
    """Return the versions, the machine and the command line of a result, and device and precision if `runtime` is given."""
    record: dict[str, object] = {
        "sharpcli": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": processes.current().size,
        "command_line": sys.argv,
    }
    if runtime is not None:
        cuda = runtime.device.type == "cuda"
        record["device"] = torch.cuda.get_device_name(runtime.device) if cuda else runtime.device.type
        record["dtype"] = str(runtime.dtype).removeprefix("torch.")
        record["tf32"] = False
    return record
