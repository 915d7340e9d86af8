"""Defects of landscape tools that no other test of ours owns; docs/defects.md lists all, each with its test."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import sharpcli
from sharpcli.analyses.surface.grid import SavedGrid, fill

ROOT = Path(__file__).parents[2]


def test_a_loss_of_exactly_zero_counts_as_computed(tmp_path: Path):
    places, calls = [-1.0, 0.0, 1.0], 0

    def flat(alpha: float, beta: float) -> float:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        fill(flat, places, places, SavedGrid(tmp_path / "s.pt", {}))
    found = fill(flat, places, places, SavedGrid(tmp_path / "s.pt", {}))
    assert calls == 9 + 1  # Nine points, and the one that was broken off.
    assert numpy.array_equal(found, numpy.zeros((3, 3)))


def test_losses_are_those_of_the_data_without_augmentation(tmp_path: Path):
    """Trained with flips and crops drawn anew; the path, the surface and the spectrum see the images as they are."""
    random, classes = numpy.random.default_rng(0), numpy.arange(60) % 3
    images = random.normal(size=(60, 1, 8, 8)).astype(numpy.float32)
    numpy.savez(tmp_path / "d.npz", x_train=images[:40], y_train=classes[:40], x_test=images[40:], y_test=classes[40:])
    made = sharpcli.train(
        model="convnet", model_arg=("norm=batch", "width=2"), data=f"npz:{tmp_path / 'd.npz'}", steps=6, save_every=3,
        augment=("flip", "crop"), out=str(tmp_path / "run"), batch_size=10,
    )  # fmt: skip
    run = Path(made.rows[0].folder)
    once, again = (sharpcli.hessian(run, topk=1).loss for _ in range(2))
    path = sharpcli.interpolate(run / "step-3.pt", run, points=3, range="0:1", bn="eval")
    recorded = float(re.findall(r'"train_loss": ([0-9.e-]+)', (run / "metrics.jsonl").read_text())[-1])
    assert once == again
    assert path.curves[0].loss[-1] == pytest.approx(once, rel=1e-6)
    assert sharpcli.surface([run], points=3, bn="eval").loss_at_origin == pytest.approx(once, rel=1e-6)
    assert recorded == pytest.approx(once, rel=1e-6)


@pytest.mark.parametrize("word", ["false", "true"])
def test_a_switch_that_says_false_is_off_and_a_fraction_is_a_number(runs: Path, word: str):
    name = "worst-case:rho=0.05,steps=2,restarts=1"
    found = sharpcli.sharpness(runs / "sgd", measure=(f"{name},adaptive={word}", name)).readings
    assert found[0].options["adaptive"] is (word == "true")
    assert found[0].options["rho"] == 0.05
    assert (found[0].value == found[1].value) is (word == "false")


def test_the_page_names_tests_that_exist():
    page = (ROOT / "docs" / "defects.md").read_text()
    named: set[str] = set(re.findall(r"`(tests/[\w/]+\.py)`? *:? *`?(test_\w+)", page))
    assert len(named) >= 20
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path} has no {name}"


def test_the_command_for_each_analysis_runs(runs: Path, sharpcli: Callable[..., Any], tmp_path: Path):
    """A figure or summary that fails at the end of the work is found here, not by a user."""
    sgd, full = runs / "sgd", runs / "fullbatch"
    for words in (
        ["hessian", sgd, "--topk", 1], ["sharpness", sgd, "--subspace", 0], ["interpolate", sgd, full, "--points", 3],
        ["distance", sgd], ["surface", sgd, "--points", 3], ["compare", sgd, full, "--metrics", "distance"], ["inspect", sgd],
        ["reparam", sgd, tmp_path / "scaled.pt", "--logits", "--factor", 2],
    ):  # fmt: skip
        plot = ["--plot", tmp_path / f"{words[0]}.png"] if words[0] in ("hessian", "interpolate", "surface", "compare") else []
        answer = sharpcli(*words, *plot)
        assert answer.exit_code == 0, (words, answer.stderr)
        assert answer.stdout
        assert not plot or plot[1].stat().st_size > 5_000
