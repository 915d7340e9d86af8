"""A run survives being killed, a full disk, divergence and SIGTERM: what is on disk is whole, and goes on to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.lanes import thinned
from tests.processes import Machine

KILLS = 25
NET = """from torch import nn
def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 3)
    )
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("material")
    random = np.random.default_rng(0)
    classes = np.arange(60) % 3
    images = random.normal(size=(60, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x_train=images[:40], y_train=classes[:40], x_test=images[40:], y_test=classes[40:])
    (folder / "net.py").write_text(NET)
    return folder / "data.npz", folder / "net.py"


def timeless(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_in_the_same_bytes(material: tuple[Path, Path], tmp_path: Path) -> None:
    """BatchNorm, dropout, momentum, SAM, noise, augmentation, three averages and two trackers: all of it is taken up."""
    script = Path(__file__).with_name("kill.py")

    def go(name: str, kills: int) -> int:
        words = [sys.executable, str(script), *map(str, material), str(tmp_path / name), str(kills)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return int(done.stdout)

    assert go("killed", KILLS) == KILLS
    go("whole", 0)
    killed, whole = (tmp_path / name / "sgd" for name in ("killed", "whole"))
    kept = {path.name for path in whole.iterdir()}
    assert kept >= {"final.pt", "tail.pt", "ema.pt", "swa.pt", "step-97.pt", "step-582.pt", "sharpness.jsonl"}
    left = {path.name for path in killed.iterdir() if not path.name.startswith(".")}
    assert left == kept
    for name in sorted(kept):
        if name.endswith(".pt"):
            assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
        elif name.endswith(".jsonl"):
            assert timeless(killed / name) == timeless(whole / name), name


LARGE = ["--model", "mlp", "--model-arg", "hidden=2000"]  # Weights of 72 KB, which dwarf the records.


def test_a_state_that_does_not_fit_on_the_disk_loses_only_that_save(machine: Machine, data_file: Path, tmp_path: Path) -> None:
    """Checkpoints fit below the limit on a file's size, the state with momentum and averages does not."""
    words = [*LARGE, "--data", f"npz:{data_file}", "--steps", 60, "--eval-every", 60, "--average", "ema:0.9"]
    words += ["--state-seconds", 1e-6]
    assert machine("train", *words, "--out", tmp_path / "free").exit_code == 0
    size = (tmp_path / "free" / "sgd" / "final.pt").stat().st_size
    narrow = machine("train", *words, "--out", tmp_path / "narrow", limits={"RLIMIT_FSIZE": int(1.6 * size)})
    assert narrow.exit_code == 0, narrow.stderr
    warned = [told for told in narrow.stderr.splitlines() if told.startswith("warning: ")]
    assert len(warned) == 1
    assert "the state to resume from" in warned[0]
    found = [(tmp_path / name / "sgd" / "final.pt").read_bytes() for name in ("free", "narrow")]
    assert found[0] == found[1]
    assert not any(path.name.startswith(".") for path in (tmp_path / "narrow" / "sgd").iterdir())


def test_a_disk_without_room_for_the_weights_is_told_before_the_work(machine: Machine, data_file: Path, tmp_path: Path) -> None:
    words = [*LARGE, "--data", f"npz:{data_file}", "--steps", 10**6]
    done = machine("train", *words, "--out", tmp_path / "run", limits={"RLIMIT_FSIZE": 10_000})
    assert done.exit_code == 3
    assert done.stdout == ""
    assert [told.partition(" ")[0] for told in done.stderr.splitlines()] == ["error:", "hint:"]
    assert "init.pt" in done.stderr


def test_sigterm_saves_the_state_as_ctrl_c_does(machine: Machine, tiny: list[str], tmp_path: Path) -> None:
    words = ["train", *tiny, "--steps", 10**6, "--batch-size", 16, "--eval-every", 100, "--out", tmp_path]
    folder = tmp_path / "sgd"
    answer = machine.stopped((folder / "metrics.jsonl").exists, *words, by=signal.SIGTERM)
    assert answer.exit_code == 128 + signal.SIGTERM, answer.stderr
    assert (folder / "last.pt").exists()
    assert "--resume" in answer.stderr


def test_divergence_leaves_the_last_weights_that_were_evaluated(
    sharpcli: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    words = ["--lr", 1e6, "--steps", 50, "--batch-size", 60, "--eval-every", 1, "--save-every", 1, "--out", tmp_path]
    answer = sharpcli("train", *tiny, *words)
    assert answer.exit_code == 4
    good = torch.load(tmp_path / "sgd" / "last-good.pt", weights_only=True)
    step = good["metadata"]["step"]
    assert f"after update {step}" in answer.stderr
    assert "last-good.pt" in answer.stderr
    same = torch.load(tmp_path / "sgd" / f"step-{step}.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(good["state_dict"][name], same[name]) for name in same)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in same.values())


INTERRUPTED = """import os
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)
        self.passes = 0
    def forward(self, inputs):
        outputs = self.last(self.drop(self.norm(self.first(inputs.flatten(1)))))
        if self.training:
            self.passes += 1
            if os.environ.get("BREAK_AT") == str(self.passes):
                raise KeyboardInterrupt
        return outputs
"""


@pytest.mark.parametrize("place", thinned([7, 1, 12]))
def test_a_second_ctrl_c_in_the_midst_of_an_update_leaves_what_was_saved_before(
    place: int, machine: Machine, tmp_path: Path
) -> None:
    """BatchNorm and dropout have seen half of an update then; a state of it would not go on to the same bytes."""
    (tmp_path / "net.py").write_text(INTERRUPTED)
    random, classes = np.random.default_rng(0), np.arange(60) % 3
    images = random.normal(size=(60, 64)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=images[:40], y_train=classes[:40], x_test=images[40:], y_test=classes[40:])
    words = ["--mode", "sgd", "--model", f"{tmp_path / 'net.py'}:Net", "--data", f"npz:{tmp_path / 'd.npz'}", "--steps", 20,
             "--batch-size", 10, "--eval-every", 4, "--track-sharpness", 10, "--state-seconds", 1e-9]  # fmt: skip
    words = ["train", *words]
    assert machine(*words, "--out", tmp_path / "whole").exit_code == 0
    broken = machine(*words, "--out", tmp_path / "broken", BREAK_AT=str(place))
    assert broken.exit_code == 130, broken.stderr
    resumed = machine(*words, "--out", tmp_path / "broken", "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    whole, broken_run = tmp_path / "whole" / "sgd", tmp_path / "broken" / "sgd"
    assert (broken_run / "final.pt").read_bytes() == (whole / "final.pt").read_bytes()
    for name in ("metrics", "distances", "sharpness"):
        assert timeless(broken_run / f"{name}.jsonl") == timeless(whole / f"{name}.jsonl")
