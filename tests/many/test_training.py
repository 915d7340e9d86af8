"""Training in several processes gives the weights of one process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sharpcli import checkpoints
from tests.processes import Answer, Machine

Run = Callable[..., Answer]

pytestmark = pytest.mark.slow

METHODS = {
    "three modes": ["--mode", "sgd,largebatch,fullbatch", "--steps", 6],
    "sam, clipping, noise of examples, averages": [
        *("--mode", "sgd", "--steps", 6, "--batch-size", 10, "--sam", 0.05, "--clip", 0.5, "--example-noise", 0.3),
        *("--average", "tail:0.5,ema:0.9", "--optimizer", "adam", "--track-sharpness", 3),
    ],
    "noise, smoothing, chunks": [
        *("--mode", "fullbatch", "--steps", 5, "--chunk-size", 9, "--coordinate-noise", 0.1, "--additive-noise", 0.01),
        *("--label-smoothing", 0.1),
    ],
    "adam at its edge": [
        *("--mode", "fullbatch", "--steps", 6, "--optimizer", "adamw", "--track-sharpness", 3, "--weight-decay", 0.1),
    ],
    "gradient penalty": ["--mode", "fullbatch", "--steps", 5, "--grad-penalty", 0.5, "--ghost-bn", 20],
    "batches smaller than the number of processes": ["--mode", "sgd", "--steps", 4, "--batch-size", 2],
}

DROPOUT = """
import torch

def net(input_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(6, num_classes))
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.rglob("*.pt"))
    assert files
    return {
        f"{path.relative_to(folder)} {name}": tensor.double()
        for path in files
        for name, tensor in checkpoints.read(path).state.items()
    }


def require_same(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", METHODS)
def test_the_weights_are_those_of_one_process(name: str, run: Run, tiny: list[str], tmp_path: Path) -> None:
    counts = (1, 2, 3) if name == "three modes" else (1, 3)
    for count in counts:
        answer = run(count, "train", *tiny, *METHODS[name], "--out", tmp_path / str(count))
        assert answer.exit_code == 0, answer.stderr
    for count in counts[1:]:
        require_same(tmp_path / "1", tmp_path / str(count))


@pytest.mark.parametrize(
    "words", [["--mode", "sgd", "--batch-size", 16], ["--mode", "fullbatch", "--ghost-bn", 9, "--sam", 0.1]]
)
def test_running_statistics_of_batch_norm_follow_the_order_of_the_blocks(words: list[object], run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels, classes = random.integers(0, 256, (70, 12, 12, 3), dtype=np.uint8), np.arange(70) % 3
    np.savez(tmp_path / "data.npz", x_train=pixels, y_train=classes, x_test=pixels[:20], y_test=classes[:20])
    net = ["--model", "resnet8", "--data", f"npz:{tmp_path / 'data.npz'}", "--augment", "flip,crop", "--average", "ema:0.5"]
    for count in (1, 2):
        answer = run(count, "train", *net, *words, "--steps", 3, "--out", tmp_path / str(count), "--dtype", "float64")
        assert answer.exit_code == 0, answer.stderr
    require_same(tmp_path / "1", tmp_path / "2")


def test_a_model_with_dropout_is_not_divided(run: Run, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(DROPOUT)
    words = ["train", "--model", f"{tmp_path / 'net.py'}:net", *tiny[-2:], "--steps", 5, "--mode", "fullbatch", "--out"]
    one, two = (run(count, *words, tmp_path / str(count)) for count in (1, 2))
    assert (one.exit_code, two.exit_code) == (0, 0), two.stderr
    assert "updates are not divided" in two.stderr
    require_same(tmp_path / "1", tmp_path / "2")


def test_a_killed_run_is_resumed_with_another_number_of_processes(
    start: Callable[..., list[int]], run: Run, machines: list[Machine], tiny: list[str], tmp_path: Path
) -> None:
    words = ["train", *tiny, "--steps", 400, "--mode", "sgd", "--batch-size", 16, "--state-seconds", 0.01, "--out"]
    numbers = start(2, *words, tmp_path / "2")
    state = tmp_path / "2" / "sgd" / checkpoints.STATE
    end = time.monotonic() + 50
    while not state.exists() and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(numbers[1], signal.SIGKILL)
    first = machines[0].end()
    machines[1].end()
    assert (first.exit_code, first.stdout) == (6, "")
    assert "Continue with: sharpcli train --resume" in first.stderr
    resumed = run(3, "train", "--resume", tmp_path / "2" / "sgd")
    assert resumed.exit_code == 0, resumed.stderr
    assert run(1, *words, tmp_path / "1").exit_code == 0
    require_same(tmp_path / "1", tmp_path / "2")


def test_an_old_run_is_replaced_once(run: Run, tiny: list[str], tmp_path: Path) -> None:
    words = ["train", *tiny, "--steps", 3, "--mode", "sgd,fullbatch", "--out", tmp_path / "runs"]
    assert run(2, *words).exit_code == 0
    refused = run(2, *words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "already holds a run" in refused.stderr
    replaced = run(2, *words, "--overwrite", "--seed", 1)
    assert replaced.exit_code == 0, replaced.stderr
    assert checkpoints.read(tmp_path / "runs" / "sgd" / "final.pt").metadata["seed"] == 1
