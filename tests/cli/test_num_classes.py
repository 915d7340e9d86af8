"""How many outputs a model is built with: those of the file, else those of the data, unless --num-classes says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

Run = Callable[..., Any]
CODE = (
    "from torch import nn\ndef net(num_classes): return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, num_classes))\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Five classes in the file, three in the data."""
    (tmp_path / "net.py").write_text(CODE)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)).state_dict(), tmp_path / "net.pt")
    inputs, targets = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 3
    np.savez(tmp_path / "data.npz", x_train=inputs, y_train=targets, x_test=inputs[:9], y_test=targets[:9])
    return tmp_path


@pytest.mark.parametrize("model", ["{}/net.py:net", "mlp"])
def test_the_file_says_how_many_classes_there_are(model: str, place: Path, sharpcli: Run) -> None:
    words = ["--model", model.format(place), "--data", f"npz:{place / 'data.npz'}"]
    file = place / "net.pt"
    if model == "mlp":
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
        torch.save(net.state_dict(), file)
        words += ["--model-arg", "hidden=6"]
    for more in ([], ["--num-classes", 5]):
        answer = sharpcli("hessian", file, *words, *more, "--topk", 1)
        assert answer.exit_code == 0, answer.stderr
    other = sharpcli("hessian", file, *words, "--num-classes", 4)
    assert (other.exit_code, other.stdout) == (3, "")
    assert "of another shape" in other.stderr


def test_training_with_more_outputs_than_classes(place: Path, sharpcli: Run) -> None:
    words = ["--model", f"{place / 'net.py'}:net", "--data", f"npz:{place / 'data.npz'}"]
    out = place / "runs"
    assert sharpcli("train", *words, "--num-classes", 7, "--steps", 2, "--out", out).exit_code == 0
    state = torch.load(out / "sgd" / "final.pt")["state_dict"]
    assert state["2.bias"].shape == (7,)
    answer = sharpcli("hessian", out / "sgd", *words, "--topk", 1)
    assert answer.exit_code == 0, answer.stderr
    assert "as stored" in sharpcli("inspect", out / "sgd").stdout or sharpcli("inspect", out / "sgd", *words).exit_code == 0
    assert sharpcli("train", *words, "--num-classes", 0, "--steps", 2, "--out", place / "no").exit_code == 2
