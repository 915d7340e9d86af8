"""`--deterministic`: torch uses kernels that give the same bits each time, and only inside the analysis."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils import deterministic

from sharpcli.deterministic import deterministic_kernels
from tests.processes import Answer

Run = Callable[..., Answer]

SCATTERING = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x) + torch.zeros(3).put_(torch.arange(3), torch.ones(3))

def net(input_shape, num_classes):
    return Net()
"""


def switches() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    own = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    return *own, cudnn.benchmark, cudnn.deterministic, deterministic.fill_uninitialized_memory, workspace


def test_the_settings_of_torch_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = switches()
    with deterministic_kernels():
        assert switches() == (True, False, False, True, False, ":4096:8")
    assert switches() == before
    with pytest.raises(RuntimeError, match="other"), deterministic_kernels():
        raise RuntimeError("other")
    assert switches() == before


def test_two_commands_have_the_same_bits_and_measure_no_speed(sharpcli: Run, runs: Path) -> None:
    words = ["hessian", runs / "sgd", "--topk", 2, "--deterministic", "--json", "--verbose"]
    one, two = (sharpcli(*words) for _ in range(2))
    assert "Nothing was measured" in one.stderr
    assert json.loads(one.stdout)["result"]["eigenvalues"] == json.loads(two.stdout)["result"]["eigenvalues"]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("command", ["hessian", "sharpness", "train"])
def test_an_operation_without_such_a_kernel_is_refused(command: str, sharpcli: Run, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SCATTERING)
    own = ["--model", f"{tmp_path / 'net.py'}:net", "--data", f"npz:{data_file}"]
    out = tmp_path / "runs"
    free = sharpcli("train", *own, "--mode", "sgd", "--steps", 2, "--out", out)
    assert free.exit_code == 0, free.stderr
    words = ["--mode", "sgd", "--steps", 2, "--out", tmp_path / "again"] if command == "train" else [out / "sgd"]
    answer = sharpcli(command, *words, *own, "--deterministic")
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert "With --deterministic the model does not run: put_ does not have a deterministic implementation." in answer.stderr
