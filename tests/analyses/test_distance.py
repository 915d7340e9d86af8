"""Fits of how distance grows, against data of known form, and the length of the way, against hand-made triangles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch

import sharpcli
from sharpcli import checkpoints, progress
from sharpcli.analyses.distance.growth import growth

UPDATES = [1, 2, 3, 5, 8, 13, 20, 32, 50, 79, 126, 200, 316, 501, 794, 1259]


def lines(values: numpy.ndarray) -> list[dict[str, float]]:
    return [{"step": step, "distance": float(value)} for step, value in zip(UPDATES, values, strict=True)]


def noise(seed: int, size: float) -> numpy.ndarray:
    return size * numpy.random.default_rng(seed).normal(size=len(UPDATES))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_logarithm_is_told_from_a_power_law(seed: int):
    t = numpy.array(UPDATES, dtype=float)
    found = growth(lines(2 + 1.5 * numpy.log(t) + noise(seed, 0.1)), 1, None)
    assert found.preferred == "log"
    assert found.fits[0].parameters["b"] == pytest.approx(1.5, rel=0.05)
    assert found.aic_difference > 10
    assert found.sentence.startswith("The data prefer log t")
    other = growth(lines(0.4 * t**0.5 + noise(seed, 0.1)), 1, None)
    assert other.preferred == "power"
    assert other.fits[1].parameters["p"] == pytest.approx(0.5, rel=0.05)
    assert other.sentence.startswith("The data prefer the power law")


def test_what_cannot_be_told_apart_is_not():
    """On a short range a small power is a logarithm: t^p = 1 + p log t + ..."""
    t = numpy.array(UPDATES, dtype=float)
    found = growth(lines(5 + 0.05 * numpy.log(t) + noise(0, 0.1)), 1, None)
    assert found.preferred is None
    assert "do not distinguish" in found.sentence


def test_fits_are_least_squares_and_exact_where_data_are():
    t = numpy.array(UPDATES, dtype=float)
    found = growth(lines(1 + 2 * numpy.log(t)), 1, None)
    log, power = found.fits
    assert log.parameters == pytest.approx({"a": 1, "b": 2}, rel=1e-10)
    assert log.r_squared == pytest.approx(1)
    assert max(map(abs, log.residuals)) < 1e-10
    squares = [sum(((1 + 2 * numpy.log(t)) - c * t**p) ** 2)
               for c in (power.parameters["c"], power.parameters["c"] * 1.01)
               for p in (power.parameters["p"], power.parameters["p"] * 1.01)]  # fmt: skip
    assert squares[0] == min(squares)
    assert sum(residual**2 for residual in power.residuals) == pytest.approx(squares[0])
    exact = growth(lines(3 * t**0.25), 1, None).fits[1]
    assert exact.parameters == pytest.approx({"c": 3, "p": 0.25}, rel=1e-7)


def test_the_range_of_updates_counts():
    t = numpy.array(UPDATES, dtype=float)
    found = growth(lines(numpy.log(t) + 1), 5, 500)
    assert found.steps == (5, 8, 13, 20, 32, 50, 79, 126, 200, 316)
    assert growth(lines(numpy.log(t) + 1), 400, None) is None


def test_the_way_through_saved_steps(tmp_path: Path):
    """From (0, 0) by (3, 0) to (3, 4): length 7, displacement 5, one right angle."""
    places = {"init.pt": (0.0, 0.0), "step-1.pt": (3.0, 0.0), "final.pt": (3.0, 4.0)}
    start = {"w": torch.zeros(1, 2)}
    for number, (name, place) in enumerate(places.items()):
        about = {"step": number, "parameters": ["w"], "init": {"path": "init.pt", "sha256": checkpoints.state_sha256(start)}}
        checkpoints.write(tmp_path / name, {"w": torch.tensor([place])}, about)
    found = sharpcli.distance(tmp_path, per_layer=True)
    assert (found.trajectory.length, found.trajectory.displacement) == (7, 5)
    assert found.trajectory.straightness == pytest.approx(5 / 7)
    assert found.trajectory.stretches == (3, 4)
    assert found.trajectory.turns == (0,)
    assert found.growth is None
    assert found.layers[0].filters == 1
    assert found.layers[0].filter_relative_max is None  # They began at 0.


def test_filters_are_measured_one_by_one(tmp_path: Path):
    checkpoints.write(tmp_path / "a.pt", {"w": torch.tensor([[3.0, 4.0], [1.0, 0.0]])}, {})
    checkpoints.write(tmp_path / "b.pt", {"w": torch.tensor([[3.0, 4.0], [1.0, 2.0]])}, {})
    layer = sharpcli.distance(tmp_path / "b.pt", init=str(tmp_path / "a.pt"), per_layer=True).layers[0]
    assert (layer.filters, layer.filter_relative_mean, layer.filter_relative_max) == (2, 1, 2)


def test_what_training_wrote_down_is_what_is_fitted(runs: Path, tmp_path: Path):
    import shutil

    shutil.copytree(runs / "sgd", tmp_path / "run")
    t = numpy.array(UPDATES, dtype=float)
    (tmp_path / "run" / "distances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines(numpy.log(t) + 2)))
    found = sharpcli.distance(tmp_path / "run")
    assert found.growth.steps == tuple(UPDATES)
    assert "cosine" in found.growth.sentence  # The schedule of that run, whose rate falls from the first update.
    assert "--fit-to" not in sharpcli.distance(tmp_path / "run", fit_to=1300).growth.sentence
    (tmp_path / "run" / "distances.jsonl").write_text("half a li")
    with progress.gathering() as warnings:  # The weights themselves need no record.
        again = sharpcli.distance(tmp_path / "run")
    assert again.distance == found.distance
    assert any("distances.jsonl" in warning and "saved steps" in warning for warning in warnings)


def test_the_way_from_foreign_weights_with_a_wrappers_prefix(runs: Path, tmp_path: Path):
    state = torch.load(runs / "sgd" / "init.pt", weights_only=True)["state_dict"]
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "wrapped.pt")
    found = sharpcli.distance(runs / "sgd", init=str(tmp_path / "wrapped.pt"))
    assert found.trajectory == sharpcli.distance(runs / "sgd").trajectory
