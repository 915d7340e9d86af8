"""`--data file.py:fn`: the data of the user's own code, in training and in analyses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.cli.test_transform import largest_eigenvalue

CODE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
def net(): return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
def samples(count):
    random = torch.Generator().manual_seed(count)
    return torch.randn(count, 4, generator=random), torch.arange(count) % 3
def loaders():
    train, test = (TensorDataset(*samples(count)) for count in (30, 9))
    return {"train": DataLoader(train, 7, shuffle=True), "val": DataLoader(test)}
"""

MASKED = """
import torch
from torch import nn
class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
    def forward(self, x, mask): return self.a(x * mask)
def masked(): return Masked()
def plain(): return nn.Linear(4, 3)
x, y = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
def masked_data(): return [{"x": x, "mask": x > 0, "y": y}]
def multiplied_data(): return x * (x > 0), y
"""

TWO = """
import torch
from torch import nn
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(1, 3)
    def forward(self, features, bias): return self.a(features) + self.b(bias)
def data():
    x, y = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
    return (x[:30], x[:30, :1], y[:30]), (x[30:], x[30:, :1], y[30:])
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(CODE)
    return path


def test_a_foreign_net_over_the_users_own_loaders(sharpcli: Callable[..., Any], code: Path, tmp_path: Path):
    space: dict[str, Any] = {}
    exec(CODE, space)
    torch.manual_seed(0)
    model: nn.Module = space["net"]().double()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "net.pt")
    inputs, targets = space["samples"](30)
    words = ["--model", f"{code}:net", "--data", f"{code}:loaders", "--topk", 1, "--tol", 1e-8, "--dtype", "float64", "--json"]
    answer = sharpcli("hessian", tmp_path / "net.pt", *words)
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    wanted = largest_eigenvalue(model, inputs.double(), targets)
    assert result["eigenvalues"][0]["value"] == pytest.approx(wanted, rel=1e-7)
    assert result["conditions"]["preprocessing"] == f"as {code}:loaders gives them"
    assert sharpcli("compare", tmp_path / "net.pt", *words[:4]).exit_code == 0


def test_a_run_over_own_data_is_trained_and_analysed_only_where_its_code_is_named(
    sharpcli: Callable[..., Any], code: Path, tmp_path: Path
):
    words = ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"{code}:loaders"]
    assert sharpcli("train", *words, "--steps", 2, "--out", tmp_path).exit_code == 0
    final = tmp_path / "sgd" / "final.pt"
    for command in (["hessian", final, "--topk", 1], ["train", "--resume", tmp_path / "sgd"]):
        answer = sharpcli(*command)
        assert answer.exit_code == 3
        assert "code that a file names is never run" in answer.stderr.replace("\n", " ")
        named = sharpcli(*command, "--data", f"{code}:loaders")
        assert named.exit_code == 0, named.stderr


def test_a_mask_of_booleans_reaches_the_model(sharpcli: Callable[..., Any], tmp_path: Path):
    """A net that multiplies by a mask, against the same net on samples that are multiplied before."""
    (tmp_path / "masked.py").write_text(MASKED)
    torch.manual_seed(0)
    weights = nn.Linear(4, 3).state_dict()
    torch.save({f"a.{name}": tensor for name, tensor in weights.items()}, tmp_path / "masked.pt")
    torch.save(weights, tmp_path / "plain.pt")
    values = []
    for net, data in (("masked", "masked"), ("plain", "multiplied")):
        words = ["--model", f"{tmp_path / 'masked.py'}:{net}", "--data", f"{tmp_path / 'masked.py'}:{data}_data"]
        answer = sharpcli("hessian", tmp_path / f"{net}.pt", *words, "--topk", 2, "--json")
        assert answer.exit_code == 0, answer.stderr
        values.append([row["value"] for row in json.loads(answer.stdout)["result"]["eigenvalues"]])
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_weights_of_a_model_of_two_inputs_need_no_data(sharpcli: Callable[..., Any], tmp_path: Path):
    """Trained, analysed and measured: where only tensors are asked about, the model is not called."""
    code = tmp_path / "two.py"
    code.write_text(TWO)
    words = ["--model", f"{code}:Two", "--data", f"{code}:data"]
    answer = sharpcli("train", *words, "--steps", 2, "--batch-size", 8, "--out", tmp_path)
    assert answer.exit_code == 0, answer.stderr
    assert sharpcli("distance", tmp_path / "sgd", "--model", f"{code}:Two").exit_code == 0
    answer = sharpcli("hessian", tmp_path / "sgd", *words, "--topk", 1)
    assert answer.exit_code == 0, answer.stderr
    assert "loss stored in" not in answer.stderr
    answer = sharpcli("train", *words, "--augment", "flip", "--out", tmp_path / "other")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "is for images" in answer.stderr
