"""Mistakes that are told before any work: folders without a run, models that cannot be walked, two outputs in one place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Machine

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_checkpoints" / "sgd"

Run = Callable[..., Any]
CODE = """
import dataclasses
import torch
from torch import nn

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))

@dataclasses.dataclass
class unhashable(nn.Module):
    def __post_init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
    def forward(self, x):
        return self.layer(x.flatten(1))

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
    def forward(self, x):
        raise MemoryError
def greedy():
    return Greedy()

ready = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""


def refused(answer: Any, code: int, *words: str) -> None:
    assert answer.exit_code == code, answer.stderr
    assert answer.stdout == ""
    assert "Internal error" not in answer.stderr
    for word in words:
        assert word in answer.stderr, answer.stderr


@pytest.mark.parametrize("left", [[], ["init.pt"], ["final.pt", "init.pt", "metrics.jsonl"]])
def test_a_folder_without_settings_is_no_run_to_go_on_with(left: list[str], sharpcli: Run, tmp_path: Path):
    """Going on would train the default model from the beginning, in its place."""
    folder = tmp_path / "runs" / "sgd"
    folder.mkdir(parents=True)
    for name in left:
        shutil.copy(SAMPLE / name, folder / name)
    for place in (folder, folder.parent):
        refused(sharpcli("train", "--resume", place), 3, "contains no run to continue", "settings.json")
    assert sorted(path.name for path in folder.iterdir()) == sorted(left)


def test_a_run_is_not_begun_inside_of_another(sharpcli: Run, tmp_path: Path):
    folder = tmp_path / "runs" / "sgd"
    shutil.copytree(SAMPLE, folder)
    before = sorted(folder.iterdir())
    refused(sharpcli("train", "--mode", "sgd", "--steps", 1, "--out", folder), 2, "is that of a run", "--resume")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lazy", ("'1.weight' is lazy", "one batch")),
        ("unhashable", ("unhashable", "eq=False")),
        ("greedy", ("MemoryError", "more memory")),
        ("ready", ("is a model, not a function", "def build(): return ready")),
    ],
)
@pytest.mark.parametrize("command", ["hessian", "inspect", "distance"])
def test_a_model_that_cannot_be_used_is_told_in_words(
    name: str, words: tuple[str, ...], command: str, sharpcli: Run, tmp_path: Path
):
    (tmp_path / "net.py").write_text(CODE)
    answer = sharpcli(command, SAMPLE, "--model", f"{tmp_path / 'net.py'}:{name}")
    if command == "inspect":  # It tells in its checks what other commands refuse.
        assert answer.exit_code in (0, 3), answer.stderr
        assert words[0] in answer.stdout
        assert "cannot be analysed" in answer.stdout
        return
    if command == "distance" and name == "greedy":
        return  # Which calls no model.
    refused(answer, 3, *words)


def test_a_plot_replaces_no_other_file(sharpcli: Run, tmp_path: Path):
    checkpoint = tmp_path / "x.png"
    shutil.copy(SAMPLE / "final.pt", checkpoint)
    before = checkpoint.read_bytes()
    words = ["hessian", checkpoint, "--topk", 1, "--samples", 20]
    refused(sharpcli(*words, "--plot", checkpoint), 2, "is not a picture")
    assert checkpoint.read_bytes() == before
    both = tmp_path / "z.png"
    refused(sharpcli(*words, "--plot", both, "--vectors", both), 2, "--plot and --vectors")
    assert not both.exists()
    for _ in range(2):  # A picture may be drawn anew.
        assert sharpcli(*words, "--plot", tmp_path / "y.png").exit_code == 0


def test_a_drawing_backend_of_the_environment_does_not_matter(new_process: Run, tmp_path: Path):
    plot = tmp_path / "p.png"
    answer = new_process("hessian", SAMPLE, "--topk", 1, "--samples", 20, "--plot", plot, MPLBACKEND="garbage")
    assert answer.exit_code == 0, answer.stderr
    assert plot.exists()


def test_a_number_that_is_not_finite_is_called_so(sharpcli: Run, tmp_path: Path):
    refused(sharpcli("reparam", SAMPLE, tmp_path / "p.pt", "--factor", "inf"), 2, "--factor is inf", "not a finite number")


def test_quiet_training_writes_no_line(machine: Machine, tmp_path: Path):
    line = "train --mode sgd --steps 400 --eval-every 100 --model mlp --model-arg hidden=4 --quiet --out run"
    answer = machine(*line.split(), cwd=tmp_path)
    assert (answer.exit_code, answer.stderr) == (0, "")
