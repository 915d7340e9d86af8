"""--allow-pickle: without it nothing in a file runs, with it the weights of a pickled model are read, and a warning says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpcli import checkpoints
from sharpcli.errors import InputError

Run = Callable[..., Any]


class Loud:
    """A file that runs code when it is opened."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (Path.touch, (self.place,))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(nn.Linear(4, 3), tmp_path / "model.pt")
    torch.save({"model": nn.Linear(4, 3), "epoch": 3}, tmp_path / "dict.pt")
    torch.save({"state_dict": nn.Linear(4, 3).state_dict(), "extra": Loud(tmp_path / "ran")}, tmp_path / "loud.pt")
    torch.save({"train": (torch.randn(30, 4), torch.arange(30) % 3)}, tmp_path / "data.pt")
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(4, 3)\n")
    return tmp_path


@pytest.mark.parametrize("name", ["model.pt", "dict.pt", "loud.pt"])
def test_the_switch_is_named_and_nothing_runs_without_it(name: str, place: Path, sharpcli: Run) -> None:
    words = ["hessian", place / name, "--model", f"{place / 'net.py'}:net", "--data", f"pt:{place / 'data.pt'}", "--topk", 1]
    refused = sharpcli(*words)
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "--allow-pickle" in refused.stderr
    assert not (place / "ran").exists()
    answer = sharpcli(*words, "--allow-pickle", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert "is opened by running the code in it (--allow-pickle)" in answer.stderr
    assert json.loads(answer.stdout)["result"]["lambda_max"] > 0
    assert (place / "ran").exists() == (name == "loud.pt")


def test_a_file_that_needs_no_code_is_read_safely_with_it_too(place: Path, sharpcli: Run) -> None:
    torch.save(nn.Linear(4, 3).state_dict(), place / "plain.pt")
    answer = sharpcli("inspect", place / "plain.pt", "--allow-pickle")
    assert "by running" not in answer.stderr


def test_other_commands(place: Path, sharpcli: Run) -> None:
    one, other = place / "model.pt", place / "dict.pt"
    words = ["--model", f"{place / 'net.py'}:net", "--data", f"pt:{place / 'data.pt'}", "--allow-pickle"]
    assert sharpcli("distance", one, "--init", other, "--allow-pickle").exit_code == 0
    assert sharpcli("interpolate", one, other, "--points", 3, "--split", "train", *words).exit_code == 0
    assert sharpcli("inspect", one, *words).exit_code == 0


def test_a_class_that_is_not_there_is_said(place: Path) -> None:
    (place / "gone.py").write_text("import torch\nclass Net(torch.nn.Linear): pass\n")
    import sys

    sys.path.insert(0, str(place))
    try:
        import gone  # type: ignore[import-not-found]

        torch.save(gone.Net(4, 3), place / "gone.pt")
    finally:
        sys.path.remove(str(place))
        sys.modules.pop("gone")
    state = checkpoints.read(place / "gone.pt", allow_pickle=True).state  # Next to the file there is its code.
    assert state.keys() == {"weight", "bias"}
    sys.modules.pop("gone", None)
    (place / "gone.py").unlink()
    with pytest.raises(InputError, match="cannot be opened: ModuleNotFoundError"):
        checkpoints.read(place / "gone.pt", allow_pickle=True)
