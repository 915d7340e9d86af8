"""What a reader has to know about the machine and the versions behind the figures. No torch here."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.arguments import Plan
from benchmarks.environment import ROOT

_PACKAGES = ("sharpcli", "torch", "torchvision", "numpy", "scipy")
_PEERS = ("curvlinops-for-pytorch", "hessian-eigenthings", "PyHessian", "landscaper")


def conditions(plan: Plan, *, seed: int) -> dict[str, object]:
    """Return them as plain values; the load is that of before the run, so above 0 others were at work."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": plan.threads,
        "load": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "peers": {name: _version(name) for name in _PEERS},
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": plan.quick,
        "rounds": plan.rounds,
        "k": plan.k,
        "seed": seed,
        "precision": "float32 products, reference in float64 at the same weights",
    }


def processor() -> str:
    """Return the name of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the tree, with -dirty where files differ from it, if git knows."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
