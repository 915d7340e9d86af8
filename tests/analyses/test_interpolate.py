"""Paths between nets with BatchNorm, where the statistics are what goes wrong elsewhere."""

import math
from pathlib import Path

import numpy
import pytest
import torch

import sharpcli
from sharpcli import checkpoints
from sharpcli.analyses import interpolate as module
from sharpcli.errors import NumericalError
from sharpcli.settings import InterpolateSettings


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Train a small net with BatchNorm twice from one initialization."""
    folder = tmp_path_factory.mktemp("runs")
    random = numpy.random.default_rng(0)
    arrays = {"x_train": random.normal(size=(90, 1, 8, 8)), "x_test": random.normal(size=(31, 1, 8, 8))}
    arrays |= {"y_train": random.integers(0, 3, 90), "y_test": random.integers(0, 3, 31)}
    numpy.savez(folder / "data.npz", **arrays)
    options = {"data": f"npz:{folder / 'data.npz'}", "model": "convnet", "model_arg": ("norm=batch", "width=2")}
    result = sharpcli.train(mode=("sgd", "largebatch"), steps=40, out=str(folder / "bn"), **options)
    sharpcli.train(mode=("sgd",), steps=40, seed=1, out=str(folder / "other"), **options)
    return [result.rows[0].checkpoint, str(folder / "other/sgd/final.pt")]


def test_recomputed_ends_are_the_checkpoints_with_recomputed_statistics(runs: list[str]):
    result = sharpcli.interpolate(*runs, range="-1:2", points=7)
    assert result.batch_norm == "recompute"
    assert result.alphas == (-1, -0.5, 0, 0.5, 1, 1.5, 2)
    assert all(math.isfinite(loss) for curve in result.curves for loss in curve.loss)
    for alpha, path in zip((0, 1), runs, strict=True):
        opened = module.open_checkpoint(path, InterpolateSettings())
        train = opened.objective("train")
        alone = train.evaluate(train.parameters(), train.recompute_buffers(train.parameters()))
        assert result.curves[0].loss[result.alphas.index(alpha)] == pytest.approx(alone.loss, rel=1e-6)


def test_stored_statistics_are_mixed_and_variances_stay_positive(runs: list[str]):
    result = sharpcli.interpolate(*runs, range="-1:2", points=7, bn="eval")
    assert all(math.isfinite(loss) for curve in result.curves for loss in curve.loss)
    for alpha, path in zip((0, 1), runs, strict=True):
        stored = checkpoints.read(path).metadata["final"]
        for curve in result.curves:
            assert curve.loss[result.alphas.index(alpha)] == pytest.approx(stored[f"{curve.split}_loss"], rel=1e-5)


def test_the_answer_does_not_depend_on_the_batch_size(runs: list[str]):
    first, second = (sharpcli.interpolate(*runs, points=5, batch_size=batch) for batch in (7, 90))
    for one, other in zip(first.curves, second.curves, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_the_barrier_is_the_largest_rise_over_the_chord(runs: list[str]):
    result = sharpcli.interpolate(*runs, range="-0.5:1.5", points=21)
    curve = result.curves[0]
    loss = dict(zip(result.alphas, curve.loss, strict=True))
    rises = {alpha: loss[alpha] - (1 - alpha) * loss[0] - alpha * loss[1] for alpha in loss if 0 <= alpha <= 1}
    assert curve.barrier == pytest.approx(max(0, *rises.values()))
    assert result.barrier == curve.barrier
    assert rises[curve.barrier_alpha] == pytest.approx(max(rises.values()))


def test_the_arc_meets_both_ends_and_leaves_the_line_between(runs: list[str]):
    line, arc = (sharpcli.interpolate(*runs, path=path, points=5, split="train").curves[0] for path in ("linear", "arc"))
    assert arc.loss[1] == pytest.approx(line.loss[1], rel=1e-5)
    assert arc.loss[3] == pytest.approx(line.loss[3], rel=1e-5)
    assert arc.loss[2] != pytest.approx(line.loss[2], rel=1e-3)


def test_the_arc_is_keskars():
    """Appendix D: sin(απ/2)·B + cos(απ/2)·A."""
    path = object.__new__(module._Path)
    path.settings = InterpolateSettings(path="arc")
    path.ends = (torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    for alpha, expected in ((0.5, [math.sqrt(0.5)] * 2), (-1, [0, -1]), (2, [-1, 0]), (0, [1, 0]), (1, [0, 1])):
        assert path.point(alpha).tolist() == pytest.approx(expected, abs=1e-15)


def test_a_path_whose_end_is_not_the_checkpoint_stops_the_command(runs: list[str], monkeypatch: pytest.MonkeyPatch):
    """The check must be able to fail: bend the path."""
    straight = module._Path.point
    monkeypatch.setattr(module._Path, "point", lambda self, alpha: 1.01 * straight(self, alpha))
    with pytest.raises(NumericalError, match="by itself gives"):
        sharpcli.interpolate(*runs, points=3)


def test_identical_ends_have_no_barrier(runs: list[str]):
    result = sharpcli.interpolate(runs[0], runs[0], points=5)
    assert result.distance == 0
    assert all(curve.barrier == pytest.approx(0, abs=1e-6) for curve in result.curves)


def test_files_are_untouched(runs: list[str]):
    before = [Path(path).read_bytes() for path in runs]
    sharpcli.interpolate(*runs, points=3)
    assert [Path(path).read_bytes() for path in runs] == before
    assert torch.get_default_dtype() == torch.float32
