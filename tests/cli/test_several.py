"""Commands that take several checkpoints pass over what lies beside them, and say so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Answer

Run = Callable[..., Answer]
OTHERS = ["README.md", "notes.txt", "table.json", "metrics.jsonl", "picture.png", "data.npz", "empty"]


@pytest.fixture
def folder(runs: Path, tmp_path: Path) -> Path:
    """Two runs, and what often lies beside them."""
    for name in ("sgd", "fullbatch"):
        shutil.copytree(runs / name, tmp_path / name)
    (tmp_path / "README.md").write_text("# Runs\n")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "table.json").write_text('{"a": 1}')
    (tmp_path / "metrics.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty").touch()
    return tmp_path


LINES = ["compare", "sharpness --subspace 0 --restarts 1", "distance", "inspect", "hessian --topk 1", "interpolate --points 3"]


@pytest.mark.parametrize("line", LINES)
def test_what_is_no_checkpoint_is_passed_over(line: str, folder: Path, sharpcli: Run) -> None:
    command, *words = line.split()
    named = sorted(folder.iterdir())
    answer = sharpcli(command, *named, *words, "--json")
    assert answer.exit_code == 0, answer.stderr
    note, *warnings = answer.stderr.splitlines()
    assert note.startswith("note: left out, because they are not checkpoints: ")
    assert note.partition("checkpoints: ")[2].split(", ") == sorted(str(folder / name) for name in OTHERS)
    assert all(line.startswith("warning: ") for line in warnings)
    alone = sharpcli(command, folder / "fullbatch", folder / "sgd", *words, "--json")
    assert alone.stderr.splitlines() == warnings

    def places(text: str) -> list[str]:
        return [line for line in text.splitlines() if '"sha256"' in line]

    assert places(answer.stdout) == places(alone.stdout)
    assert json.loads(answer.stdout)["warnings"] == json.loads(alone.stdout)["warnings"]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("names", [["README.md"], ["README.md", "picture.png"]], ids=["one", "two"])
def test_where_nothing_is_left_it_is_an_error(line: str, names: list[str], folder: Path, sharpcli: Run) -> None:
    command, *words = line.split()
    answer = sharpcli(command, *(folder / name for name in names), *words)
    assert answer.exit_code in (2, 3)
    assert answer.stdout == ""
    assert [line.partition(" ")[0] for line in answer.stderr.splitlines()] == ["error:", "hint:"]


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors", "none", "README"])
def test_what_is_meant_as_a_checkpoint_is_not_passed_over(name: str, folder: Path, sharpcli: Run) -> None:
    """Damaged, missing, or a run that was interrupted: a row that is left out without an error would not be missed."""
    (folder / "broken.pt").write_text("text")
    (folder / "broken.safetensors").write_text("text")
    answer = sharpcli("compare", folder / "sgd", folder / "fullbatch", folder / name)
    assert answer.exit_code == 3
    assert name in answer.stderr
    (folder / "sgd" / "final.pt").unlink()
    unfinished: Any = sharpcli("compare", folder / "sgd", folder / "fullbatch")
    assert unfinished.exit_code == 3
    assert "interrupted" in unfinished.stderr


def test_a_file_without_an_ending_is_a_checkpoint_by_its_contents(folder: Path, sharpcli: Run) -> None:
    shutil.copy(folder / "sgd" / "final.pt", folder / "weights")
    answer = sharpcli("compare", folder / "weights", folder / "fullbatch", "--metrics", "hessian", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert len(json.loads(answer.stdout)["result"]["rows"]) == 2
