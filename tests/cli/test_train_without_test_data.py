"""Training on data without a test split: what needs one has no value, and all else works."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

Run = Callable[..., Any]
WORDS = ["--model", "mlp", "--model-arg", "hidden=4", "--steps", 6, "--average", "tail:0.5"]


@pytest.fixture
def parts(arrays: dict[str, numpy.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make two files of the same training data, one of them with test data, and work beside them."""
    numpy.savez(tmp_path / "both.npz", **arrays)
    numpy.savez(tmp_path / "train.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(sharpcli: Run, name: str) -> dict[str, Any]:
    answer = sharpcli("train", "--mode", "sgd,fullbatch", *WORDS, "--data", f"npz:{name}.npz", "--out", name, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert ("no test split" in answer.stderr) == (name == "train")
    document: dict[str, Any] = json.loads(answer.stdout)["result"]
    return document


def test_the_weights_are_those_of_training_with_a_test_split(parts: Path, sharpcli: Run) -> None:
    alone, both = (trained(sharpcli, name) for name in ("train", "both"))
    for row, other in zip(alone["rows"], both["rows"], strict=True):
        assert row["train_loss"] == other["train_loss"]
        assert (row["test_loss"], row["test_accuracy"], row["gap"]) == (None, None, None)
        assert other["gap"] == other["test_loss"] - other["train_loss"]
    lines = [json.loads(line) for line in (parts / "train/sgd/metrics.jsonl").read_text().splitlines()]
    assert {line["test_loss"] for line in lines} == {None}


def test_the_next_commands_need_no_test_split(parts: Path, sharpcli: Run) -> None:
    commands = [shlex.split(line)[1:] for line in trained(sharpcli, "train")["next_commands"]]
    assert {words[0] for words in commands} == {"inspect", "hessian", "sharpness", "interpolate", "distance"}
    for words in commands:
        answer = sharpcli(*words)
        assert answer.exit_code == 0, (words, answer.stderr)
    assert sharpcli("compare", "train/sgd").exit_code == 3


def test_a_run_goes_on(parts: Path, sharpcli: Run) -> None:
    words = ["train", "--mode", "sgd", *WORDS, "--data", "npz:train.npz", "--out", "train", "--json"]
    assert sharpcli(*words).exit_code == 0
    first = json.loads(sharpcli("train", "--resume", "train", "--json").stdout)["result"]["rows"]
    assert [row["gap"] for row in first] == [None, None]
