"""The machine as sharpcli sees it: versions, devices, threads, memory, folders, and what would make analyses faster."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Unpack

import torch

from sharpcli import __version__, files
from sharpcli.host_memory import available_memory
from sharpcli.random_states import random_states_kept
from sharpcli.results import DeviceRow, DoctorResult, PlaceRow
from sharpcli.runtime import Runtime, exact_arithmetic, provenance
from sharpcli.settings import DoctorSettings, chosen
from sharpcli.settings.options import DoctorOptions

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "matplotlib", "safetensors", "typer", "rich")
_OPTIONAL = ("timm", "transformers", "lightning", "pandas", "curvlinops-for-pytorch", "hessian-eigenthings")
_SIZE, _SECONDS = 1024, 0.2  # Side of the matrices, and time of a measurement.
_LITTLE = 2 * 2**30  # Bytes of free memory below which more products are computed than necessary.


def doctor(*, settings: DoctorSettings | None = None, **options: Unpack[DoctorOptions]) -> DoctorResult:
    """Return what sharpcli finds on this machine. Nothing is installed, downloaded or written.

    Args:
        settings: Settings of the command.
        **options: Fields of the settings, instead of `settings`.

    Raises:
        SettingsError: An option is unknown.
    """
    settings = chosen(DoctorSettings, settings, options)
    start = time.perf_counter()
    devices = tuple(_devices(measured=bool(settings.measure)))
    cores, threads, load = _cores(), torch.get_num_threads(), _load()
    return DoctorResult(
        versions=_versions(),
        system=platform.platform(),
        processor=f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        cores=cores,
        threads=threads,
        load=load,
        devices=devices,
        places=tuple(_places(settings.data_root)),
        advice=tuple(_advice(cores, threads, load, devices, os.environ)),
        settings=settings.to_dict(),
        provenance=provenance(),
        seconds=time.perf_counter() - start,
    )


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"sharpcli": __version__, "python": platform.python_version()}
    for package in (*_PACKAGES, *_OPTIONAL):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _devices(*, measured: bool) -> Iterator[DeviceRow]:
    names = ["cpu", *(f"cuda:{place}" for place in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    for name in names:
        runtime = Runtime.open(name)
        memory: int | None = None
        free: int | None = None
        kind = platform.processor() or platform.machine()
        if name == "cpu":
            free = available_memory()
        elif name.startswith("cuda"):
            free, memory = torch.cuda.mem_get_info(runtime.device)
            kind = torch.cuda.get_device_name(runtime.device)
        yield DeviceRow(name=name, kind=kind, memory=memory, free=free, gigaflops=_speed(runtime) if measured else None)


def _speed(runtime: Runtime) -> float:
    """Return the speed of matrix products in float32, in 1e9 operations a second: the best of those in `_SECONDS`."""
    with random_states_kept(), exact_arithmetic():
        one, other = (torch.randn(_SIZE, _SIZE).to(runtime.device) for _ in range(2))
        best, end = float("inf"), time.perf_counter() + _SECONDS
        while best == float("inf") or time.perf_counter() < end:
            runtime.synchronize()
            start = time.perf_counter()
            one @ other
            runtime.synchronize()
            best = min(best, time.perf_counter() - start)
    return 2 * _SIZE**3 / best / 1e9


def _cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not have it.
        return os.cpu_count() or 1


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _places(data_root: str) -> Iterator[PlaceRow]:
    home = Path.home() / ".cache"
    hub = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME", home)) / "huggingface")
    named = {
        "defaults of this folder": "sharpcli.toml",
        "data sets": data_root,
        "weights of torchvision": str(Path(torch.hub.get_dir()) / "checkpoints"),
        "weights of timm and transformers": hub,
        "code of torch.compile": os.environ.get("TORCHINDUCTOR_CACHE_DIR", "") or _temporary(),
    }
    for name, path in named.items():
        place = files.from_root(path)
        yield PlaceRow(name=name, path=str(place), exists=place.exists())


def _temporary() -> str:
    """Return the folder that torch.compile uses by default: one for each user, among the temporary files."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container may run as a user without a name.
        user = str(os.getuid())
    return str(Path(tempfile.gettempdir()) / f"torchinductor_{user}")


def _advice(
    cores: int, threads: int, load: float | None, devices: tuple[DeviceRow, ...], environment: Mapping[str, str]
) -> Iterator[str]:
    """Yield what would make analyses faster, one sentence each."""
    if threads < cores:
        cause = ": OMP_NUM_THREADS is " + environment["OMP_NUM_THREADS"] if environment.get("OMP_NUM_THREADS") else ""
        yield f"torch uses {threads} of {cores} cores{cause}. Set OMP_NUM_THREADS={cores}."
    if threads > cores:
        yield f"torch uses {threads} threads on {cores} cores, which slows it down. Set OMP_NUM_THREADS={cores}."
    if load is not None and load > cores + 0.5:
        yield f"{load:.1f} processes share {cores} cores: other work slows analyses down and makes times unreliable."
    if len(devices) == 1:
        if torch.version.cuda is None and Path("/proc/driver/nvidia").exists():
            yield "There is an NVIDIA GPU, but this torch is built without CUDA. Install a build of torch with CUDA."
        elif torch.version.cuda is not None and Path("/proc/driver/nvidia").exists():
            yield "There is an NVIDIA GPU, but torch cannot use it. Compare the driver with torch.version.cuda."
        else:
            yield "There is no GPU that torch can use; large models take much longer on a CPU."
    free = devices[0].free
    if free is not None and free < _LITTLE:
        yield f"Only {free / 2**30:.1f} GiB of memory are free: less is stored, so that more is computed again."
