"""The environment of the benchmark: sharpcli as it is in this tree, the peers, and the project's pins for all of them.

It needs a package index the first time; afterwards, until pins or dependencies change, it works offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tomllib
import venv
from pathlib import Path

from benchmarks.progress import tell

HERE = Path(__file__).parent
ROOT = HERE.parent
FOLDER = HERE / ".venv"
PYTHON = FOLDER / "bin" / "python"
# What pip is asked for, call by call, by the name that is imported. Landscaper draws in topopy, which asks for NumPy 1 though
# it runs with the NumPy 2 of our pins, and nglpy, which asks for two packages that it only uses to sample: no resolver can
# please them all.
PEERS = {
    "curvlinops": [["curvlinops-for-pytorch"]],
    "hessian_eigenthings": [["hessian-eigenthings"]],
    "pyhessian": [["pyhessian"]],
    "landscaper": [
        ["--no-deps", "landscaper", "topopy", "nglpy"],
        ["coloraide", "drawsvg", "gudhi", "networkx", "pandas", "scikit-learn", "treelib", "tqdm"],
    ],
}
_PINS = [ROOT / "constraints.txt", HERE / "constraints.txt"]
_STAMP = FOLDER / ".installed.json"  # Written last, so that an installation cut short is made again.


class SetUpError(Exception):
    """The environment cannot be made."""


def ensure() -> dict[str, str]:
    """Make the environment if it is not there, and return why peers are missing from it, by the name that is imported.

    Raises:
        SetUpError: sharpcli itself cannot be installed.
    """
    key = _key()
    if _STAMP.exists():
        stamp = json.loads(_STAMP.read_text())
        if stamp["key"] == key:
            return dict(stamp["missing"])
    tell(f"making {FOLDER.relative_to(ROOT)} with sharpcli and its peers; this takes some minutes once")
    _STAMP.unlink(missing_ok=True)
    if not PYTHON.exists():
        venv.create(FOLDER, clear=True, with_pip=True)
    failure = _install("-e", str(ROOT))
    if failure:
        raise SetUpError(f"sharpcli cannot be installed into {FOLDER.relative_to(ROOT)}: {failure}")
    missing = {}
    for module, calls in PEERS.items():
        failure = next(filter(None, (_install(*words) for words in calls)), "") or _imports(module)
        if failure:
            missing[module] = failure
    _STAMP.write_text(json.dumps({"key": key, "missing": missing}))
    return missing


def variables(threads: int) -> dict[str, str]:
    """Return the environment variables of a worker.

    Libgomp's threads spin while they wait, which on a shared machine makes two threads slower than one.
    """
    return {**os.environ, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(threads)}


def _key() -> str:
    """Return what makes another environment; the rest of pyproject.toml, such as style, does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = [json.dumps([project["dependencies"], PEERS]), *(pins.read_text() for pins in _PINS)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _install(*what: str) -> str:
    """Install, and return the line that says why it failed, or nothing."""
    pins = [word for place in _PINS for word in ("-c", str(place))]
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins, *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or done.stderr.splitlines()[-1:] or ["pip failed"])[0]


def _imports(module: str) -> str:
    """Import a module in a process of its own, and return the last line of the error, or nothing."""
    done = subprocess.run([str(PYTHON), "-c", f"import {module}"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it does not import"])[-1]
