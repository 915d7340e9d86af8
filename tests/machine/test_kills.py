"""Kill train, surface and hessian --state at random moments, as a power cut does, and go on: the answer is the same to the bit.

What is killed is the process of a command line; after each kill the same command line goes on. A few kills of each command
belong to `make test-slow`, many to `make test-long`; the moments are drawn from a seed. One kill is in test_held.py.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lanes import slow
from tests.processes import LONGEST, Machine

FEW, MANY = 3, 25
SLOWED = "import time; time.sleep(0.002)"
COMMANDS = ("train", "surface", "hessian")
SECONDS = (0.3, 3.0)  # From the start of a process to its kill.


def words_of(command: str, final: Path, folder: Path) -> list[object]:
    if command == "train":
        kept = ["--state-seconds", 0.02, "--average", "ema:0.9", "--momentum", 0.9, "--batch-size", 16, "--overwrite"]
        return ["train", "--steps", 400, "--eval-every", 40, "--save-every", 97, *kept, "--out", folder / "run"]
    if command == "surface":
        return ["surface", final, "--points", 25, "--state", folder / "state", "--json"]
    how = ["--topk", 6, "--bottomk", 2, "--tol", 1e-6, "--engine", "double-backward", "--chunk-size", 20]
    return ["hessian", final, *how, "--memory", "20KB", "--state", folder / "state", "--vectors", folder / "v.st", "--json"]


def found_by(command: str, stdout: str, folder: Path) -> dict[str, Any]:
    """Return all that must be the same."""
    if command == "train":
        run = folder / "run" / "sgd"
        kept: dict[str, Any] = {path.name: path.read_bytes() for path in run.glob("*.pt")}
        for path in run.glob("*.jsonl"):
            kept[path.name] = [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        assert {"final.pt", "ema.pt", "init.pt", "step-97.pt", "metrics.jsonl", "distances.jsonl"} <= kept.keys()
        return kept
    result = json.loads(stdout)["result"]
    if command == "surface":
        return {"loss": result["loss"], "loss_at_origin": result["loss_at_origin"]}
    vectors = (folder / "v.st").read_bytes()
    return {name: result[name] for name in ("eigenvalues", "ceiling", "floor", "ended")} | {"vectors": vectors}


@pytest.mark.parametrize(
    ("command", "kills"),
    [
        *(slow(command, FEW) for command in COMMANDS),
        *(pytest.param(command, MANY, marks=pytest.mark.long) for command in COMMANDS),
    ],
)
def test_killed_at_random_moments_it_gives_the_same_answer(
    command: str, kills: int, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    model, chance = own_model(called=SLOWED), random.Random(f"{command} {kills}")
    (tmp_path / "whole").mkdir()
    undisturbed = machine(*words_of(command, final, tmp_path / "whole"), *model)
    assert undisturbed.exit_code == 0, undisturbed.stderr
    wanted = found_by(command, undisturbed.stdout, tmp_path / "whole")
    killed = runs = 0
    while killed < kills:
        folder = tmp_path / str(runs)
        folder.mkdir()
        words, code = words_of(command, final, folder), -signal.SIGKILL
        while code == -signal.SIGKILL:
            going_on = command == "train" and (folder / "run" / "sgd" / "init.pt").exists()
            line = [*(word for word in words if word != "--overwrite"), "--resume"] if going_on else words
            after = chance.uniform(*SECONDS) if killed < kills else LONGEST
            answer = machine(*line, *model, kill_after=after)
            code = answer.exit_code
            killed += code == -signal.SIGKILL
        assert code == 0, answer.stderr
        assert found_by(command, answer.stdout, folder) == wanted
        left = [path for path in folder.rglob(".*") if not path.name.startswith(".v.st.")]
        assert left == []
        runs += 1
    assert killed == kills
