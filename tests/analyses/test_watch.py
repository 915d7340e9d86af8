"""Rows along runs have the numbers of the other commands, and rows that were saved are not measured again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import sharpcli
from sharpcli import progress
from sharpcli.errors import InputError, SettingsError

FEW = {"samples": 60, "tol": 1e-6, "dtype": "float64"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two short runs over data with a test split, and one over data without."""
    folder = tmp_path_factory.mktemp("watched")
    random = numpy.random.default_rng(0)
    arrays = {"x_train": random.normal(size=(80, 6)).astype("float32"), "y_train": random.integers(0, 3, 80)}
    numpy.savez(folder / "half.npz", **arrays)
    test = {"x_test": random.normal(size=(30, 6)).astype("float32"), "y_test": random.integers(0, 3, 30)}
    numpy.savez(folder / "data.npz", **arrays, **test)
    options: dict[str, Any] = {"model": "mlp", "model_arg": ("hidden=4",), "steps": 6, "save_every": 2}
    sharpcli.train(mode=("sgd", "fullbatch"), data=f"npz:{folder / 'data.npz'}", out=str(folder / "both"), **options)
    sharpcli.train(mode=("sgd",), data=f"npz:{folder / 'half.npz'}", out=str(folder / "half"), **options)
    return folder


def numbers(result: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "reused"} for row in result.records()]


def test_each_row_has_the_numbers_of_the_other_commands(runs: Path):
    metrics = ("hessian", "sharpness", "distance")
    found = sharpcli.watch(runs / "both" / "sgd", metrics=metrics, measure=("gradient-norm", "average-case:sigma=0.01"), **FEW)
    assert [row.step for row in found.rows] == [0, 2, 4, 6]
    for row in found.rows:
        path = row.checkpoint.path
        top = sharpcli.hessian(path, topk=1, **FEW)
        assert row.lambda_max == pytest.approx(top.lambda_max, rel=1e-6)
        assert row.train_loss == pytest.approx(top.loss, rel=1e-12)
        measured = sharpcli.sharpness(path, measure=("gradient-norm", "average-case:sigma=0.01"), samples=60, dtype="float64")
        assert [reading.value for reading in row.readings] == [reading.value for reading in measured.readings]
        compared = sharpcli.compare([path], samples=60, dtype="float64").rows[0]
        assert row.phi == pytest.approx(compared.phi, rel=1e-3)
        assert row.distance == pytest.approx(compared.distance or 0.0)
        assert row.test_loss == pytest.approx(compared.test_loss, rel=1e-12)
    assert found.rows[0].learning_rate is None
    assert found.rows[-1].learning_rate == found.rows[-1].checkpoint.last_learning_rate


def test_saved_rows_are_equal_and_not_measured_again(runs: Path, tmp_path: Path):
    both = [runs / "both" / "sgd", runs / "both" / "fullbatch"]
    options: dict[str, Any] = {"state": str(tmp_path / "state"), **FEW}
    whole = sharpcli.watch(both, **options)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "state").iterdir()}
    assert len(before) == len(whole.rows) == 8
    again = sharpcli.watch(both, **options)
    assert numbers(again) == numbers(whole) == numbers(sharpcli.watch(both, **FEW))
    assert all(row.reused for row in again.rows)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    damaged = min(before)
    damaged.write_text(damaged.read_text()[:50])
    with progress.gathering() as warnings:
        mended = sharpcli.watch(both, **options)
    assert any("is measured again" in warning for warning in warnings)
    assert sum(not row.reused for row in mended.rows) == 1
    for one, other in zip(mended.rows, whole.rows, strict=True):
        assert one.lambda_max == pytest.approx(other.lambda_max, rel=1e-5)


def test_rows_of_other_settings_are_not_reused(runs: Path, tmp_path: Path):
    options: dict[str, Any] = {"state": str(tmp_path / "state"), **FEW}
    sharpcli.watch(runs / "both" / "sgd", every=3, **options)
    assert [row.reused for row in sharpcli.watch(runs / "both" / "sgd", **options).rows] == [True, False, False, True]
    for other in ({"seed": 1}, {"samples": 50}, {"measure": ("gradient-norm",)}, {"loss": "mse"}):
        found = sharpcli.watch(runs / "both" / "sgd", every=3, **options | other)
        assert not any(row.reused for row in found.rows), other


def test_data_without_a_test_split_have_no_test_loss(runs: Path):
    found = sharpcli.watch(runs / "half" / "sgd", **FEW)
    assert {row.test_loss for row in found.rows} == {None}
    assert "test loss" not in str(found)


def test_what_cannot_be_watched_is_said(runs: Path, tmp_path: Path):
    with pytest.raises(InputError, match="not a run folder with saved steps"):
        sharpcli.watch(runs / "both" / "sgd" / "final.pt")
    with pytest.raises(SettingsError, match="no measure called 'foo'"):
        sharpcli.watch(runs / "both" / "sgd", measure=("foo",))
    with pytest.raises(SettingsError, match="no run to watch"):
        sharpcli.watch([])


@pytest.mark.slow
def test_the_command_has_the_rows_of_the_function(runs: Path, tmp_path: Path, sharpcli: Callable[..., Any]):
    words = ["watch", runs / "both" / "sgd", "--samples", 60, "--metrics", "hessian"]
    answer = sharpcli(*words, "--plot", tmp_path / "w.svg", "--json")
    rows = json.loads(answer.stdout)["result"]["rows"]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert (tmp_path / "w.svg").stat().st_size > 5000
    assert sharpcli(*words, "--csv").stdout.count("\n") == 5
