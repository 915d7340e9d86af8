"""Many commands in random order, on random checkpoints, with random signals and full disks: answers are the undisturbed ones.

A command that was disturbed says so in one sentence or has its answer, and the same command then gives the answer of a
command that nobody disturbed. No file of a run changes, and no temporary file stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lanes import slow
from tests.processes import Machine

FEW, MANY = 10, 1000
MODES = ("sgd", "largebatch", "fullbatch")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
OUR_OWN = (
    "seconds",
    "engine",
    "command_line",
    "folder",
    "checkpoint",
    "path",
    "state",
    "out",
    "plot",
    "vectors",
    "warnings",
    "notes",
)


def drawn(chance: random.Random, runs: Path, folder: Path) -> list[object]:
    """Return the words of a random command, whose files are all in a folder."""
    one, other = (runs / chance.choice(MODES) / chance.choice(("final.pt", "init.pt", "step-2.pt")) for _ in range(2))
    samples = ["--samples", chance.choice((20, 41, 60))]
    state = ["--state", folder / "state"]
    lines: list[list[object]] = [
        ["hessian", one, "--topk", chance.randint(1, 4), *samples, *state],
        ["hessian", one, "--topk", 1, "--bottomk", 1, "--trace", "--density", "--plot", folder / "p.png", *samples],
        ["hessian", one, "--topk", 2, "--operator", chance.choice(("ggn", "fisher")), "--vectors", folder / "v.st"],
        ["sharpness", one, "--measure", chance.choice(("average-case", "gradient-norm", "gradient-noise")), *samples],
        ["interpolate", one, other, "--points", 3, "--plot", folder / "p.svg"],
        ["surface", one, "--points", chance.randint(2, 4), *state],
        ["compare", one, other, *samples],
        ["distance", one],
        ["inspect", one],
        ["train", "--steps", chance.randint(2, 40), "--mode", chance.choice(MODES), "--out", folder / "run"],
    ]
    return [*chance.choice(lines), "--json"]


def answer_of(stdout: str, folder: Path) -> Any:
    """Return all numbers of a document, and the bytes of the files that were made, but for times and paths."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.suffix in (".pt", ".st", ".png", ".svg") and path.name != "last.pt" and "state" not in path.parts
    }
    return _without(json.loads(stdout)["result"], str(folder)), files


def _without(part: Any, folder: str) -> Any:
    if isinstance(part, dict):
        return {name: _without(inner, folder) for name, inner in part.items() if not any(word in name for word in OUR_OWN)}
    if isinstance(part, list):
        return [_without(inner, folder) for inner in part]
    return part.replace(folder, "") if isinstance(part, str) else part


def differences(one: Any, other: Any, place: str = "") -> dict[str, Any]:
    """Return the places at which two answers differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {key: value for name in one for key, value in differences(one[name], other[name], f"{place}.{name}").items()}
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return {key: value for number, pair in pairs for key, value in differences(*pair, f"{place}[{number}]").items()}
    return {} if one == other or one != one and other != other else {place: (one, other)}


def contents(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("count", [slow(FEW), pytest.param(MANY, marks=pytest.mark.long)])
def test_commands_in_random_order_give_the_undisturbed_answers(
    count: int, machine: Machine, runs: Path, tiny: list[str], tmp_path: Path
) -> None:
    chance, before = random.Random(count), contents(runs)
    found: dict[str, int] = {}
    for number in range(count):
        seed = chance.random()
        whole, disturbed = (tmp_path / f"{number}-{name}" for name in ("whole", "disturbed"))
        answers = []
        for folder, kind in ((whole, "none"), (disturbed, chance.choice(("none", "signal", "signal", "disk")))):
            folder.mkdir()
            words = drawn(random.Random(seed), runs, folder)
            words = [*words, *tiny] if words[0] == "train" else words
            if kind != "none":
                found[kind] = found.get(kind, 0) + _disturbed(kind, words, machine, chance)
            going_on = words[0] == "train" and any(folder.rglob("settings.json"))
            line = [*words, "--resume"] if going_on else words
            done = machine(*line)
            assert done.exit_code == 0, (line, kind, done.stderr)
            answers.append(answer_of(done.stdout, folder))
            hidden = [path for path in folder.rglob(".*") if path.is_file()]
            assert hidden == [], (line, kind)
        assert differences(*answers) == {}, (words, kind)
    assert contents(runs) == before
    assert found["signal"] > 0, "no signal came before the end of its command"


def _disturbed(kind: str, words: list[object], machine: Machine, chance: random.Random) -> bool:
    """Run a command that is disturbed; return whether it did not get to its end."""
    if kind == "disk":
        answer = machine(*words, limits={"RLIMIT_FSIZE": chance.choice((2000, 4000, 9000))})
        expected = {0, 3}
    else:
        by = chance.choice(SIGNALS)
        process = machine.start(*words)
        time.sleep(chance.uniform(0.03, 0.6))
        with contextlib.suppress(ProcessLookupError):  # It has ended before.
            os.kill(process, by)
        answer = machine.end()
        expected = {0, CODES[by]}
    assert answer.exit_code in expected, (kind, words, answer)
    for word in ("Traceback", "Internal error"):
        assert word not in answer.stderr, (kind, words, answer.stderr)
    if answer.exit_code not in (0, -9):
        assert "error:" in answer.stderr
    return answer.exit_code != 0
