"""Options from the file of a task and from sharpcli.toml: what has priority, what is said, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

Run = Callable[..., Any]
TASK = """
import torch
from torch import nn
def model(width=4): return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))
def data():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    return (x, torch.arange(50) % 3), (x[:9], torch.arange(9) % 3)
"""
LOSS = """
def loss(model, batch):
    return 3 * nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(TASK)
    (tmp_path / "lossy.py").write_text(TASK + LOSS)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).state_dict(), tmp_path / "a.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(sharpcli: Run, *words: object) -> dict[str, Any]:
    answer = sharpcli(*words, "--json")
    assert answer.exit_code == 0, answer.stderr
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def sources(sharpcli: Run, *words: object) -> dict[str, tuple[Any, str]]:
    config = answered(sharpcli, *words, "--show-config")["config"]
    return {name: (entry["value"], entry["source"]) for name, entry in config.items()}


def test_a_task_is_model_data_and_loss(place: Path, sharpcli: Run) -> None:
    plain = answered(sharpcli, "hessian", "a.pt", "--task", "mine.py", "--topk", 1)
    named = answered(sharpcli, "hessian", "a.pt", "--model", "mine.py:model", "--data", "mine.py:data", "--topk", 1)
    assert plain["result"]["eigenvalues"] == named["result"]["eigenvalues"]
    assert plain["settings"] == named["settings"]
    own = answered(sharpcli, "hessian", "a.pt", "--task", "lossy.py", "--topk", 1)["result"]
    assert own["conditions"]["loss_function"] == "lossy.py:loss"
    assert own["lambda_max"] == pytest.approx(3 * plain["result"]["lambda_max"], rel=1e-4)
    other = answered(sharpcli, "hessian", "a.pt", "--task", "lossy.py", "--loss", "ce", "--topk", 1)["result"]
    assert other["lambda_max"] == pytest.approx(plain["result"]["lambda_max"], rel=1e-6)


@pytest.mark.parametrize("line", ["sharpness a.pt", "compare a.pt", "interpolate a.pt a.pt --points 3", "inspect a.pt",
                                  "surface a.pt --points 3", "train --steps 2 --out runs"])  # fmt: skip
def test_every_command_takes_a_task(line: str, place: Path, sharpcli: Run) -> None:
    answer = sharpcli(*line.split(), "--task", "mine.py")
    assert answer.exit_code == 0, answer.stderr


def test_a_training_by_a_task_goes_on_by_it(place: Path, sharpcli: Run) -> None:
    assert sharpcli("train", "--task", "mine.py", "--steps", 2, "--out", "runs").exit_code == 0
    assert sharpcli("train", "--resume", "runs").exit_code == 3
    answer = sharpcli("train", "--resume", "runs", "--task", "mine.py")
    assert answer.exit_code == 0, answer.stderr


def test_what_has_priority(place: Path, sharpcli: Run) -> None:
    (place / "sharpcli.toml").write_text('tol = 0.005\ndtype = "float64"\nmodel-arg = ["width=4"]\n[hessian]\ntopk = 2\n')
    found = sources(sharpcli, "hessian", "a.pt", "--task", "mine.py", "--tol", 0.002)
    assert found["tol"] == (0.002, "command line")
    assert found["dtype"] == ("float64", "sharpcli.toml")
    assert found["topk"] == (2, "sharpcli.toml")
    assert found["model"] == ("mine.py:model", "task")
    assert found["model_arg"] == (["width=4"], "sharpcli.toml")
    assert found["seed"] == (0, "default")
    other = sources(sharpcli, "sharpness", "a.pt", "--task", "mine.py")
    assert other["dtype"] == ("float64", "sharpcli.toml")
    assert "topk" not in other
    answer = sharpcli("hessian", "a.pt", "--task", "mine.py", "--json")
    assert "note: --model-arg, --dtype, --topk, --tol from sharpcli.toml in this folder." in answer.stderr
    document = json.loads(answer.stdout)
    assert len(document["result"]["eigenvalues"]) == 2
    assert document["settings"]["tol"] == 0.005
    assert document["result"]["conditions"]["dtype"] == "float64"
    assert "sharpcli.toml" not in sharpcli("hessian", "a.pt", "--task", "mine.py", "--quiet").stderr


def test_lists_and_numbers_in_the_file(place: Path, sharpcli: Run) -> None:
    (place / "sharpcli.toml").write_text('[sharpness]\nepsilon = [0.001, 0.01]\n[hessian]\nparams = "0.*"\nabove = 1\n')
    assert sources(sharpcli, "sharpness", "a.pt")["epsilon"] == ([0.001, 0.01], "sharpcli.toml")
    found = sources(sharpcli, "hessian", "a.pt")
    assert found["params"] == (["0.*"], "sharpcli.toml")
    assert found["above"] == ([1.0], "sharpcli.toml")


def test_the_table_of_all_options(place: Path, sharpcli: Run) -> None:
    answer = sharpcli("hessian", "missing.pt", "--topk", 3, "--show-config")
    assert answer.exit_code == 0
    rows = [line.split() for line in answer.stdout.splitlines()]
    assert ["--topk", "3", "command", "line"] in rows
    assert ["--dtype", "float32", "default"] in rows
    assert ["--trace", "false", "default"] in rows


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("tol = ", 3, "sharpcli.toml cannot be read"),
        ("tolerance = 1", 2, "sets 'tolerance', which is no option"),
        ("[hesian]\ntopk = 1", 2, "has a table for 'hesian', which is no command"),
        ("[hessian]\npoints = 1", 2, "sets 'points' for hessian, which has no such option"),
        ('tol = "small"', 2, "sharpcli.toml: --tol cannot be 'small': it has the wrong type"),
        ('model = "mine.py:model"', 2, "names the code 'mine.py:model' for --model"),
        ('loss = "mine.py:loss"', 2, "names the code 'mine.py:loss' for --loss"),
        ('data = "mine.py:data"', 2, "names the code 'mine.py:data' for --data"),
        ("overwrite = true", 2, "cannot set 'overwrite'"),
    ],
)
def test_what_the_file_cannot_say(content: str, code: int, message: str, place: Path, sharpcli: Run) -> None:
    (place / "sharpcli.toml").write_text(content)
    command = ("train", "--steps", 1) if "overwrite" in content else ("hessian", "a.pt")
    answer = sharpcli(*command)
    assert (answer.exit_code, answer.stdout) == (code, "")
    assert message in " ".join(answer.stderr.split())
    assert "hint: " in answer.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py", None, "--task none.py cannot be read"),
        ("bad.py", "def model(:", "--task bad.py is not valid Python"),
        ("empty.py", "x = 1", "--task empty.py defines neither model nor data"),
    ],
)
def test_what_is_no_task(name: str, content: str | None, message: str, place: Path, sharpcli: Run) -> None:
    if content is not None:
        (place / name).write_text(content)
    answer = sharpcli("hessian", "a.pt", "--task", name)
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert message in " ".join(answer.stderr.split())


def test_the_file_of_a_task_is_not_run_to_see_what_it_defines(place: Path, sharpcli: Run) -> None:
    (place / "loud.py").write_text(f"open('ran', 'w').close()\n{TASK}")
    assert sharpcli("hessian", "a.pt", "--task", "loud.py", "--show-config").exit_code == 0
    assert not (place / "ran").exists()


def test_a_recipe_on_the_command_line_has_priority(place: Path, sharpcli: Run) -> None:
    (place / "sharpcli.toml").write_text('lr = 0.7\ndevice = "cpu"\n')
    assert sources(sharpcli, "train")["lr"] == (0.7, "sharpcli.toml")
    found = sources(sharpcli, "train", "--recipe", "eos-gd")
    assert found["lr"] == (0.05, "recipe eos-gd")
    assert found["clip"] == (0.0, "recipe eos-gd")
    assert found["seed"] == (0, "default")
    assert sources(sharpcli, "train", "--recipe", "eos-gd", "--lr", 0.3)["lr"] == (0.3, "command line")
    assert found["device"] == ("cpu", "sharpcli.toml")


def test_a_recipe_that_cannot_be_shown_is_refused(place: Path, sharpcli: Run) -> None:
    for names, message in (("eos-gt", "Did you mean 'eos-gd'?"), ("eos-gd,keskar-sb", "the options of one recipe")):
        answer = sharpcli("train", "--recipe", names, "--show-config")
        assert (answer.exit_code, answer.stdout) == (2, "")
        assert message in " ".join(answer.stderr.split())


def test_a_wrong_value_of_the_command_line_is_not_the_fault_of_the_file(place: Path, sharpcli: Run) -> None:
    (place / "sharpcli.toml").write_text("tol = 0.1\n")
    answer = sharpcli("hessian", "a.pt", "--topk", 0)
    assert answer.exit_code == 2
    assert "sharpcli.toml: " not in answer.stderr
    (place / "sharpcli.toml").write_text("[hessian]\ntopk = 0\n")
    assert "error: sharpcli.toml: --topk" in sharpcli("hessian", "a.pt").stderr


def test_the_environment_sets_options_of_the_machine(
    place: Path, sharpcli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("hessian", "a.pt", "--task", "mine.py", "--topk", 1)
    (tmp_path / "sharpcli.toml").write_text('memory = "1GiB"\ndata-root = "here"\n')
    monkeypatch.setenv("SHARPCLI_DEVICE", "cpu")
    monkeypatch.setenv("SHARPCLI_MEMORY", "2GiB")
    monkeypatch.setenv("SHARPCLI_SEED", "7")  # A number that changes answers is no option of a machine.
    found = sources(sharpcli, *words)
    assert found["device"] == ("cpu", "SHARPCLI_DEVICE")
    assert found["memory"] == ("2GiB", "SHARPCLI_MEMORY")
    assert found["data_root"] == ("here", "sharpcli.toml")
    assert found["seed"] == (0, "default")
    assert sources(sharpcli, *words, "--memory", "3GiB")["memory"] == ("3GiB", "command line")
    told = sharpcli(*words).stderr.splitlines()
    assert told[0] == (
        "note: --data-root from sharpcli.toml in this folder; --device cpu from SHARPCLI_DEVICE; "
        "--memory 2GiB from SHARPCLI_MEMORY."
    )
    monkeypatch.setenv("SHARPCLI_MEMORY", "much")
    refused = sharpcli(*words)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: SHARPCLI_MEMORY: --memory 'much' is not a size.")
