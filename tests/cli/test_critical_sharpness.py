"""`sharpness --measure critical-sharpness` on runs of several optimizers, held to their next step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.test_hessian import NAMES, Net
from tests.nets import double_differentiation

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(sharpcli: Run) -> Callable[..., dict[str, Any]]:
    def run(path: Path, options: str = "", *words: object) -> dict[str, Any]:
        measure = f"critical-sharpness:tolerance=1e-5{options}"
        answer = sharpcli("sharpness", path, "--measure", measure, "--dtype", "float64", "--json", *words)
        assert answer.exit_code == 0, answer.stderr
        (reading,) = json.loads(answer.stdout)["result"]["readings"]
        return dict(reading)

    return run


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory, sharpcli: Run, tiny: list[str]) -> Path:
    out = tmp_path_factory.mktemp("critical")
    words = ["--optimizer", "adam", "--weight-decay", 0.01, "--steps", 20, "--lr", 0.01, "--out", out]
    assert sharpcli("train", *tiny, "--mode", "fullbatch", *words).exit_code == 0
    return out / "fullbatch" / "final.pt"


def crossing(net: Net, along: torch.Tensor, step: float) -> tuple[float, float]:
    """Return the loss at the weights and at a step along a direction, by plain torch."""
    heights = [
        float(torch.nn.functional.cross_entropy(net.outputs(net.theta - size * along), net.targets)) for size in (0.0, step)
    ]
    return heights[0], heights[1]


def slope_of(net: Net) -> torch.Tensor:
    with double_differentiation():
        return torch.func.grad(lambda theta: torch.nn.functional.cross_entropy(net.outputs(theta), net.targets))(net.theta)


def test_the_loss_is_as_high_at_the_critical_step(adam: Path, ask: Callable[..., Any], arrays: dict[str, np.ndarray]):
    net, found = Net(adam, arrays), ask(adam)
    slope = slope_of(net)
    base, there = crossing(net, slope, found["details"]["critical_step"])
    assert there == pytest.approx(base, rel=1e-4)
    assert found["value"] == pytest.approx(2 / found["details"]["critical_step"])
    curved = float(slope @ net.hessian() @ slope / (slope @ slope))
    assert found["details"]["directional_sharpness"] == pytest.approx(curved, rel=1e-6)


def test_along_the_next_update_of_adam(adam: Path, ask: Callable[..., Any], arrays: dict[str, np.ndarray]):
    net, found = Net(adam, arrays), ask(adam, ",direction=optimizer")
    kept = torch.load(adam, weights_only=True)["optimizer"]["tensors"]
    first, second = (torch.cat([kept[name][key].double().flatten() for name in NAMES]) for key in ("exp_avg", "exp_avg_sq"))
    slope = slope_of(net) + 0.01 * net.theta  # An L2 penalty.
    first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
    along = first / (1 - 0.9**21) / ((second / (1 - 0.999**21)).sqrt() + 1e-8)
    assert found["details"]["length"] == pytest.approx(float(along.norm()), rel=1e-6)
    base, there = crossing(net, along, found["details"]["critical_step"])
    assert there == pytest.approx(base, rel=1e-4)


def test_the_relative_one_is_of_one_split_along_the_other(adam: Path, ask: Callable[..., Any], arrays: dict[str, np.ndarray]):
    found = ask(adam, ",of=train", "--split", "test")
    train, test = Net(adam, arrays), Net(adam, arrays, "test")
    base, there = crossing(test, slope_of(train), found["details"]["critical_step"])
    assert there == pytest.approx(base, rel=1e-4)
    assert found["value"] != pytest.approx(ask(adam, "", "--split", "test")["value"], rel=1e-3)


def test_of_its_own_split_it_is_the_plain_one(adam: Path, ask: Callable[..., Any]):
    assert ask(adam, ",of=train")["value"] == ask(adam)["value"]


def test_sgd_without_momentum_steps_along_the_gradient(sharpcli: Run, tiny: list[str], ask: Callable[..., Any], tmp_path: Path):
    words = ["--momentum", 0, "--weight-decay", 0, "--steps", 5, "--out", tmp_path / "run"]
    assert sharpcli("train", *tiny, "--mode", "fullbatch", *words).exit_code == 0
    path = tmp_path / "run" / "fullbatch"
    assert ask(path, ",direction=optimizer")["value"] == pytest.approx(ask(path)["value"], rel=1e-9)


@pytest.mark.parametrize(
    ("exit_code", "options", "words"),
    [
        (2, "direction=up", "Use gradient or optimizer"),
        (2, "tolerance=0", "tolerance"),
        (2, "update=3", "update"),
        (3, "of=validation", "validation"),
        (3, "direction=optimizer", "state of an optimizer"),
    ],
)
def test_bad_options(exit_code: int, options: str, words: str, adam: Path, sharpcli: Run):
    place = adam.parent / "init.pt" if options == "direction=optimizer" else adam
    answer = sharpcli("sharpness", place, "--measure", f"critical-sharpness:{options}")
    assert answer.exit_code == exit_code, answer.stderr
    assert answer.stdout == ""
    assert words in answer.stderr
    assert "hint" in answer.stderr


def test_a_run_tracks_it_along_its_updates(sharpcli: Run, tiny: list[str], tmp_path: Path):
    """The line of the records is the answer of the measure for the file that was saved then."""
    words = [
        "--optimizer",
        "adam",
        "--steps",
        12,
        "--lr",
        0.01,
        "--track",
        "critical@4",
        "--save-every",
        4,
        "--weight-decay",
        0,
    ]
    answer = sharpcli("train", *tiny, "--mode", "fullbatch", *words, "--dtype", "float64", "--out", tmp_path / "run")
    assert answer.exit_code == 0, answer.stderr
    place = tmp_path / "run" / "fullbatch"
    lines = [json.loads(line) for line in (place / "critical.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 4, 8, 12]
    for line in lines[1:]:
        measure = "critical-sharpness:direction=optimizer,tolerance=1e-4,curvature=false"
        answer = sharpcli("sharpness", place / f"step-{line['step']}.pt", "--measure", measure, "--dtype", "float64", "--json")
        exact = json.loads(answer.stdout)["result"]["readings"][0]["value"]
        assert line["low"] * (1 - 1e-4) <= exact <= line["high"] * (1 + 1e-4)
        assert line["ratio"] == pytest.approx(line["lr"] / line["critical_step"])


def test_it_is_not_tracked_unless_asked_for(adam: Path):
    assert not (adam.parent / "critical.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "hint"), [("criticl", "critical"), ("critical@0", "critical@20"), ("critical@x", "critical@20")]
)
def test_bad_quantities_to_track(words: str, hint: str, tiny: list[str], sharpcli: Run, tmp_path: Path):
    answer = sharpcli("train", *tiny, "--track", words, "--out", tmp_path / "run")
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert hint in answer.stderr.partition("hint")[2]
    assert not (tmp_path / "run").exists()
