"""Run the pieces in order, within a time, and keep what each found."""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.conditions import commit, processor
from benchmarks.progress import tell

PIECES = ("peaks", "agreement", "training", "products", "small", "precision", "peers", "eigenvalues")


@dataclass(frozen=True)
class Setting:
    """What every piece is told.

    Attributes:
        device: Where to compute.
        small: Whether sizes are those of a trial on a CPU.
        data: A data set by sharpcli's name, such as `folder:PATH`, of 32x32 images; "" for synthetic ones.
        cache: Folder for what one piece leaves to the next.
    """

    device: str
    small: bool
    data: str
    cache: Path


def main() -> None:
    """Measure what the words on the command line ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file that holds what was found; a run goes on from it")
    parser.add_argument("--piece", action="append", choices=PIECES, help="only this one (may be repeated)")
    parser.add_argument("--minutes", type=float, default=9.0, help="no piece starts that would end later")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes of a trial on a CPU")
    parser.add_argument("--data", default="", help="32x32 images by sharpcli's name; default: synthetic ones")
    asked = parser.parse_args()
    setting = Setting(asked.device, asked.small, asked.data, asked.json.resolve().parent / "gpu-cache")
    found: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    conditions = _conditions(setting)
    if found.get("conditions", conditions) != conditions:
        tell(f"{asked.json} is of other conditions: it is not used, and written anew.")
        found = {}
    found["conditions"] = conditions
    setting.cache.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    for name in asked.piece or PIECES:
        if "error" not in found.get(name, {"error": ""}):
            tell(f"{name}: done before")
            continue
        module = import_module(f"benchmarks.gpu.{name}")
        left = 60 * asked.minutes - (time.perf_counter() - began)
        if module.SECONDS * (0.1 if setting.small else 1) > left:
            tell(f"{name}: takes about {module.SECONDS} s, {left:.0f} s are left; run again to go on")
            continue
        start = time.perf_counter()
        try:
            found[name] = {"seconds": 0.0, **module.measure(setting)}
        except Exception as error:  # A piece that fails is told, and the others go on.
            found[name] = {"error": f"{type(error).__name__}: {error}"[:400], "trace": traceback.format_exc()[-3000:]}
        found[name]["seconds"] = round(time.perf_counter() - start, 1)
        tell(f"{name}, after {time.perf_counter() - began:.0f} s: {json.dumps(found[name], default=str)[:6000]}")
        _write(asked.json, found)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _write(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(temporary, path)


def _conditions(setting: Setting) -> dict[str, Any]:
    """Return what must be equal for pieces to stand in one file."""
    cuda = setting.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(setting.device) if cuda else processor(),
        "cpu": processor(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "commit": commit(),
        "small": setting.small,
        "data": setting.data or "synthetic images of 32x32",
    }
