"""The typed options of the functions are those of the settings, and a type checker refuses others."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import sharpcli

ROOT = Path(__file__).parents[2]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_options", ROOT / "tools" / "write_options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
COMMANDS = {kind.__name__.removesuffix("Settings").lower(): kind for kind in TOOL.commands()}


def test_the_file_is_written_from_the_settings() -> None:
    """Otherwise run python tools/write_options.py."""
    assert TOOL.TARGET.read_text(encoding="utf-8") == TOOL.formatted(TOOL.written())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_function_takes_every_setting_by_name(command: str) -> None:
    function = getattr(sharpcli, command)
    options: Any = get_type_hints(function)["options"].__args__[0]
    own = set(inspect.signature(function).parameters) - {"options"}
    fields = {entry.name for entry in dataclasses.fields(COMMANDS[command])}
    assert set(options.__optional_keys__) == fields - own
    assert options.__name__ == f"{command.capitalize()}Options"


@pytest.mark.slow
def test_a_type_checker_refuses_what_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text("import sharpcli\nsharpcli.hessian('a.pt', topk=3, params='fc*').lambda_max\n")
    (tmp_path / "wrong.py").write_text("import sharpcli\nsharpcli.hessian('a.pt', tpk=3)\nsharpcli.train(lr='fast')\n")
    found = {}
    for name in ("right", "wrong"):
        words = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / f"{name}.py")]
        found[name] = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert "Success" in found["right"], found["right"]
    assert 'Unexpected keyword argument "tpk"' in found["wrong"], found["wrong"]
    assert "lr" in found["wrong"]
    assert "Found 2 errors" in found["wrong"]
