"""Programs and command lines in a process with the stand-in device."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAM = """
import json, sys
from tests.standin import device, running
device.install()
import torch
{}
"""

needs_stand_in = pytest.mark.skipif(
    torch.version.cuda is None or not hasattr(torch._C, "_ensureCUDADeviceGuardSet"),
    reason="the stand-in needs a torch that is built with CUDA, 2.11 or later",
)


def on_stand_in(program: str) -> str:
    """Run a program that finds the device installed, and return what it has printed."""
    root = Path(__file__).parents[2]
    line = [sys.executable, "-c", PROGRAM.format(program)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False, cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def answers(lines: list[list[str]]) -> list[dict[str, Any]]:
    """Run command lines with --json in one process with the device; return exit code, document, errors and events of each."""
    return json.loads(on_stand_in(f"print(json.dumps([running.answer(line) for line in {lines!r}]))"))  # type: ignore[no-any-return]


def answer(line: list[str]) -> dict[str, Any]:
    """Run a command line in this process, which has the device."""
    from sharpcli.cli.entry import main
    from tests.standin import device

    device.events.clear()
    sys.argv, out, err = ["sharpcli", *line, "--json"], io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    events = [[kind, place, count] for (kind, place), count in device.events.items()]
    document = json.loads(out.getvalue()) if out.getvalue() else None
    return {"code": code, "document": document, "stderr": err.getvalue(), "events": events}
