"""A loss no better than guessing is warned about by every command, with the likely cause."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpcli.losses import loss_named

CLASSES = torch.tensor([0, 0, 0, 1, 2, 2])
NUMBERS = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 4.0]])
LABELS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])


def best_by_descent(name: str, targets: Tensor, outputs: int) -> float:
    """Return the least mean loss of one answer for all samples, found by descending it."""
    loss, answer = loss_named(name), torch.zeros(outputs, dtype=torch.float64, requires_grad=True)

    def value() -> Tensor:
        return loss.terms(answer.expand(len(targets), -1), targets).sum() / loss.total_weight(targets)

    optimizer = torch.optim.LBFGS(
        [answer], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = value()
        found.backward()
        return found

    optimizer.step(closure)
    return float(value().detach())


@pytest.mark.parametrize(
    ("name", "targets", "outputs", "accuracy"),
    [
        ("ce", CLASSES, 3, 0.5),
        ("ce:smoothing=0.3", CLASSES, 3, 0.5),
        ("ce:ignore_index=0", CLASSES, 3, 2 / 3),
        ("ce:weight=1/5/0.5", CLASSES, 3, 0.5),
        ("ce:weight=1/5/0.5/2,smoothing=0.3", CLASSES, 4, 0.5),
        ("mse", CLASSES, 3, 0.5),
        ("mse", NUMBERS.double(), 2, None),
        ("bce", LABELS.double(), 2, 0.75),
        ("bce:pos_weight=3", LABELS.double(), 2, 0.75),
        ("bce:pos_weight=3/0.5,weight=2/0.25", LABELS.double(), 2, 0.75),
    ],
)
def test_guessing_is_the_best_single_answer(name: str, targets: Tensor, outputs: int, accuracy: float | None):
    guess = loss_named(name).guess(targets)
    assert guess.loss == pytest.approx(best_by_descent(name, targets, outputs), abs=1e-9)
    assert guess.accuracy == (None if accuracy is None else pytest.approx(accuracy))


def test_labels_that_are_all_alike_cost_nothing():
    for value in (0, 1):
        guess = loss_named("bce").guess(torch.full((5,), value))
        assert guess.loss == 0
        assert guess.accuracy == 1


@pytest.fixture
def shifted(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Return the data with the classes in another order."""
    path = tmp_path / "shifted.npz"
    turned = {key: (part + 1) % 3 if key.startswith("y") else part for key, part in arrays.items()}
    np.savez(path, **turned)
    return path


@pytest.fixture
def trained(tmp_path: Path, sharpcli: Callable[..., Any], tiny: list[str]) -> Path:
    answer = sharpcli("train", *tiny, "--steps", 60, "--lr", 0.5, "--out", tmp_path / "run")
    assert answer.exit_code == 0, answer.stderr
    return tmp_path / "run" / "sgd" / "final.pt"


LINES = [
    "hessian {a} --topk 1",
    "compare {a} --metrics distance",
    "sharpness {a} --measure average-case",
    "interpolate {a} {a} --points 2",
    "surface {a} --points 2",
    "inspect {a}",
]


@pytest.mark.parametrize("line", LINES)
def test_labels_in_another_order_are_noticed_by_every_command(
    line: str, trained: Path, shifted: Path, sharpcli: Callable[..., Any]
):
    words = line.format(a=trained).split()
    usual = sharpcli(*words)
    assert "constant prediction" not in usual.stderr
    answer = sharpcli(*words, "--data", f"npz:{shifted}", "--json")
    told = " ".join(answer.stderr.split())
    assert "is not below the loss 1.099 of the best constant prediction" in told
    assert "check preprocessing, labels and data" in told
    if answer.exit_code == 0:
        assert any("constant prediction" in warning for warning in json.loads(answer.stdout)["warnings"])


def test_a_net_that_is_no_better_than_it_was_in_training_is_told_apart(
    tmp_path: Path, sharpcli: Callable[..., Any], tiny: list[str], load: Callable[[Path], dict[str, Any]]
):
    assert sharpcli("train", *tiny, "--steps", 1, "--lr", 1e-9, "--out", tmp_path).exit_code == 0
    final = tmp_path / "sgd" / "final.pt"
    told = " ".join(sharpcli("hessian", final, "--topk", 1).stderr.split())
    assert load(final)["metadata"]["final"]["train_loss"] > math.log(3)
    assert "has learned nothing from these data" in told
    assert "check preprocessing" not in told
    assert "constant prediction" not in sharpcli("hessian", tmp_path / "sgd" / "init.pt", "--topk", 1).stderr


def test_a_good_net_on_rare_labels_is_not_accused(tmp_path: Path, sharpcli: Callable[..., Any]):
    """One label in fifty: always answering the other one is right as often, but costs more."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(2000, 4)).astype(np.float32)
    chances = 1 / (1 + np.exp(-(2 * inputs[:, 0] - 6)))
    labels = (random.random(2000) < chances).astype(np.float32)[:, None]
    np.savez(tmp_path / "d.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    (tmp_path / "net.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(4, 1)\n")
    torch.save({"weight": torch.tensor([[2.0, 0, 0, 0]]), "bias": torch.tensor([-6.0])}, tmp_path / "a.pt")
    words = ["--model", f"{tmp_path / 'net.py'}:make", "--data", f"npz:{tmp_path / 'd.npz'}", "--loss", "bce", "--topk", 1]
    answer = sharpcli("hessian", tmp_path / "a.pt", *words, "--json")
    assert json.loads(answer.stdout)["warnings"] == []
