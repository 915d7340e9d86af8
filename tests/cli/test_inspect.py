"""`inspect`: expected numbers, the shapes of a sample, the cost of an analysis, and a table of what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpcli.analyses.inspect.expected import check_expected

Run = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "sample_checkpoints" / "sgd"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    from typer.testing import CliRunner

    from sharpcli.cli.app import app

    answer = CliRunner().invoke(app, ["inspect", str(SAMPLE), "--json"])
    assert answer.exit_code == 0
    found: dict[str, Any] = json.loads(answer.stdout)["result"]
    return found


def test_the_shapes_of_a_sample(result: dict[str, Any]) -> None:
    (check,) = [check for check in result["checks"] if check["name"] == "one sample"]
    assert check["detail"] == "inputs (1, 28, 28) → outputs (10,), targets one number, int64; loss ce"


def test_the_cost_is_of_the_right_size(result: dict[str, Any]) -> None:
    cost = result["cost"]
    assert cost["topk"] == 20
    assert 40 <= cost["products"] <= 80
    assert cost["vector_bytes"] == cost["products"] * 26506 * 4
    assert cost["seconds"] > 0
    assert cost["pass_bytes"] > 1000 * 32 * 4  # 1000 samples, of which at least a layer is stored.


def test_expected_numbers(sharpcli: Run) -> None:
    good = sharpcli("inspect", SAMPLE, "--expect", "train_loss=0.0992,test_accuracy=0.85,test_loss=0.577")
    assert good.exit_code == 0, good.stderr
    assert "0.846, as expected (0.85)" in good.stdout
    bad = sharpcli("inspect", SAMPLE, "--expect", "train_loss=0.0992,test_accuracy=0.857")
    assert bad.exit_code == 3
    assert "0.846, but expected 0.857" in bad.stdout


@pytest.mark.parametrize(
    ("text", "value", "agrees"),
    [
        ("0.31", 0.3149, True), ("0.31", 0.3151, False), ("0.310", 0.3149, False), ("3.1e-1", 0.314, True),
        ("0.95", 0.9454, True), ("0.95", 0.944, False), ("2", 2.4, True), ("2", 2.6, False),
        ("0.123456789", 0.12346, True), ("1e-3", 0.0014, True),
    ],
)  # fmt: skip
def test_a_number_agrees_to_the_digits_that_are_given(text: str, value: float, agrees: bool) -> None:
    (check,) = check_expected({"train_loss": text}, {"train_loss": value})
    assert check.passed is agrees


def test_a_number_that_does_not_exist_is_said() -> None:
    (check,) = check_expected({"test_accuracy": "0.9"}, {"test_accuracy": None})
    assert check.passed is False
    assert "no such number" in check.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss=1", "has no number 'loss'"),
        ("train_loss", "is not a name and a number"),
        ("train_loss=low", "is not a name and a number"),
        ("train_loss=nan", "is not a name and a number"),
    ],
)
def test_what_cannot_be_expected(text: str, message: str, sharpcli: Run) -> None:
    answer = sharpcli("inspect", SAMPLE, "--expect", text)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert message in " ".join(answer.stderr.split())


def test_what_does_not_fit_is_a_table_below_the_error(tmp_path: Path, sharpcli: Run) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))\n"
    )
    torch.save({"0.weight": torch.ones(8, 5), "0.bias": torch.ones(8), "head.weight": torch.ones(3, 8)}, tmp_path / "a.pt")
    torch.save({"train": (torch.randn(20, 4), torch.arange(20) % 3)}, tmp_path / "d.pt")
    words = [tmp_path / "a.pt", "--model", f"{tmp_path / 'net.py'}:net", "--data", f"pt:{tmp_path / 'd.pt'}"]
    answer = sharpcli("hessian", *words)
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert answer.stderr.splitlines()[1:-1] == [
        "  missing from the file   '1.weight'",
        "  missing from the file   '1.bias'",
        "  not in the model        'head.weight'  (3, 8)",
        "  of another shape        '0.weight'  (8, 5) in the file, (8, 4) in the model",
    ]
    assert answer.stderr.splitlines()[-1].startswith("hint: ")
    inspected = sharpcli("inspect", *words)
    assert inspected.exit_code == 3
    assert "(8, 5) in the file, (8, 4) in the model" in " ".join(inspected.stdout.split())


def test_a_model_without_second_derivative_is_said_before_anyone_waits(tmp_path: Path, sharpcli: Run) -> None:
    code = """
import torch
from torch import nn
class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x.tanh()
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope): return slope
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
    def forward(self, x): return Once.apply(self.a(x))
x, y = torch.randn(20, 4), torch.arange(20) % 3
def data(): return x, y
"""
    (tmp_path / "net.py").write_text(code)
    torch.save({f"a.{name}": part for name, part in nn.Linear(4, 3).state_dict().items()}, tmp_path / "a.pt")
    words = [tmp_path / "a.pt", "--model", f"{tmp_path / 'net.py'}:Net", "--data", f"{tmp_path / 'net.py'}:data"]
    answer = sharpcli("inspect", *words)
    assert answer.exit_code == 3
    assert "derivatives" in answer.stdout
