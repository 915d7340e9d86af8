"""Asking for help, the version or the package costs no numerical library. What is loaded is checked, never a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sharpcli.cli.app import app
from tests.lanes import thinned

HEAVY = {"torch", "torchvision", "scipy", "matplotlib", "numpy", "safetensors"}
COMMANDS = [command.name for command in app.registered_commands]
PROBE = """
import json, sys
before = set(sys.modules)
try:
    {code}
except SystemExit as end:
    exit_code = end.code or 0
else:
    exit_code = 0
loaded = sorted(name for name in set(sys.modules) - before if "." not in name)
print(json.dumps([exit_code, loaded]), file=sys.stderr)
"""
RUN = "sys.argv = ['sharpcli', *{words}]; from sharpcli.cli.app import main; main()"


def probe(code: str) -> tuple[int, set[str], str]:
    """Run code in a fresh interpreter: its exit code, the top packages it loaded, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    exit_code, loaded = json.loads(done.stderr.splitlines()[-1])
    return exit_code, set(loaded), done.stdout


def test_all_commands_are_here() -> None:
    assert set(COMMANDS) == {
        "train",
        "hessian",
        "sharpness",
        "interpolate",
        "distance",
        "compare",
        "inspect",
        "doctor",
        "reparam",
        "surface",
        "watch",
    }


@pytest.mark.parametrize(
    "words", thinned([["--help"], ["-h"], ["--version"], *([name, "--help"] for name in COMMANDS)], 3), ids=" ".join
)
def test_help_and_version_load_nothing_heavy(words: list[str]) -> None:
    exit_code, loaded, printed = probe(RUN.format(words=words))
    assert exit_code == 0
    assert printed.strip()
    assert "sharpcli" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "words", [["sharpness", "--list"], ["train", "--list-recipes"], ["sharpness", "--list", "--json"]], ids=" ".join
)
def test_a_list_of_what_there_is_loads_nothing_heavy(words: list[str]) -> None:
    exit_code, loaded, printed = probe(RUN.format(words=words))
    assert exit_code == 0
    assert "worst-case" in printed or "keskar-sb" in printed
    assert not loaded & HEAVY


def test_importing_the_package_loads_nothing_heavy() -> None:
    _, loaded, printed = probe("import sharpcli; assert 'hessian' in sharpcli.__all__")
    assert "sharpcli" in loaded
    assert not loaded & HEAVY
    assert printed == ""


def test_a_setting_out_of_range_is_refused_before_torch_is_loaded() -> None:
    exit_code, loaded, _ = probe(RUN.format(words=["hessian", "any.pt", "--topk", "0"]))
    assert exit_code == 2
    assert not loaded & HEAVY


@pytest.mark.slow
def test_this_probe_would_see_torch(tmp_path: Path) -> None:
    """The control: a command that computes does load torch, and the probe says so."""
    exit_code, loaded, _ = probe(RUN.format(words=["inspect", str(tmp_path / "none.pt")]))
    assert exit_code == 3
    assert {"torch", "numpy"} <= loaded
