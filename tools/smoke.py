"""Build a wheel, and use it as a user would: python tools/smoke.py.

The wheel is unpacked into a new folder, which comes first on the path; torch and the other libraries are those of the
environment. Nothing but the wheel is used of the project: the data that it contains, offline, from another working folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "train --mode sgd,fullbatch --model mlp --model-arg hidden=8 --steps 20 --save-every 10 --out runs/a",
    "train --mode sgd --model gpt --data kjv-mini --steps 5 --out runs/text",
    "inspect runs/a/sgd",
    "hessian runs/a/sgd --topk 3 --samples 500 --plot spectrum.png",
    "hessian runs/text/sgd --topk 1 --samples 20",
    "sharpness runs/a/sgd --measure gradient-norm --samples 500",
    "interpolate runs/a/sgd runs/a/fullbatch --points 3 --samples 500",
    "watch runs/a/sgd --samples 500",
    "doctor --no-measure",
)


def built(place: Path) -> Path:
    """Return a wheel of the project."""
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(ROOT)]
    subprocess.run(words, check=True)
    return next(place.glob("sharpcli-*.whl"))


def main() -> None:
    """Build, unpack, and run every command; the first that fails ends the run."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place, work = Path(folder), Path(folder) / "work"
        work.mkdir()
        wheel = built(place)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place / "site")
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("SHARPCLI")}
        surroundings["PYTHONPATH"] = str(place / "site")
        where = "import sharpcli; print(sharpcli.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", where], cwd=work, env=surroundings, capture_output=True, text=True, check=True
        ).stdout
        if not found.startswith(str(place / "site")):
            raise SystemExit(f"Another sharpcli is used: {found}")
        for command in COMMANDS:
            print("sharpcli", command, flush=True)
            words = [sys.executable, "-m", "sharpcli", *command.split(), "--quiet"]
            done = subprocess.run(words, cwd=work, env=surroundings, capture_output=True, text=True, check=False)
            if done.returncode or not done.stdout.strip():
                raise SystemExit(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
        print(f"{wheel.name}, {wheel.stat().st_size / 2**20:.1f} MiB: all commands have answered.")


if __name__ == "__main__":
    main()
