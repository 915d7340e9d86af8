"""Paths between nets with BatchNorm, where the statistics are what goes wrong elsewhere."""

import math
from pathlib import Path

import numpy
import pytest
import torch

import sharpcli
from sharpcli import checkpoints, progress
from sharpcli.analyses.interpolate.bezier import bezier, trained_control
from sharpcli.analyses.interpolate.curvature import second_differences
from sharpcli.analyses.interpolate.path import WeightPath
from sharpcli.errors import InputError, NumericalError
from sharpcli.loading import load_checkpoint
from sharpcli.settings import InterpolateSettings
from tests.device import DEVICE


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
        loaded = load_checkpoint(path, InterpolateSettings())
        train = loaded.objective("train")
        alone = train.evaluate(train.parameters(), train.recompute_buffers(train.parameters()))
        assert result.curves[0].loss[result.alphas.index(alpha)] == pytest.approx(alone.loss, rel=1e-6)


def test_stored_statistics_are_mixed_and_variances_stay_positive(runs: list[str]):
    result = sharpcli.interpolate(*runs, range="-1:2", points=7, bn="eval")
    assert all(math.isfinite(loss) for curve in result.curves for loss in curve.loss)
    for alpha, path in zip((0, 1), runs, strict=True):
        stored = checkpoints.read(path).metadata["final"]
        for curve in result.curves:
            assert curve.loss[result.alphas.index(alpha)] == pytest.approx(stored[f"{curve.split}_loss"], rel=1e-5)


def test_data_without_a_test_split_give_the_training_loss_and_a_warning(runs: list[str], tmp_path: Path):
    with numpy.load(Path(runs[0]).parents[2] / "data.npz") as arrays:
        numpy.savez(tmp_path / "half.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    whole = sharpcli.interpolate(*runs, points=3, split="train")
    with progress.gathering() as warnings:
        half = sharpcli.interpolate(*runs, points=3, data=f"npz:{tmp_path / 'half.npz'}")
    assert any("have no test split, so only the training loss is computed" in warning for warning in warnings)
    assert [curve.split for curve in half.curves] == ["train"]
    assert half.curves[0].loss == whole.curves[0].loss
    with pytest.raises(InputError, match="have no test split"):
        sharpcli.interpolate(*runs, points=3, data=f"npz:{tmp_path / 'half.npz'}", split="test")


def test_the_answer_does_not_depend_on_the_chunk_size(runs: list[str]):
    first, second = (sharpcli.interpolate(*runs, points=5, chunk_size=size) for size in (7, 90))
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
    path = object.__new__(WeightPath)
    path.settings = InterpolateSettings(path="arc")
    path.ends = (torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    for alpha, expected in ((0.5, [math.sqrt(0.5)] * 2), (-1, [0, -1]), (2, [-1, 0]), (0, [1, 0]), (1, [0, 1])):
        assert path.point(alpha).tolist() == pytest.approx(expected, abs=1e-15)


def test_a_path_whose_end_is_not_the_checkpoint_stops_the_command(runs: list[str], monkeypatch: pytest.MonkeyPatch):
    """The check must be able to fail: bend the path."""
    straight = WeightPath.point
    monkeypatch.setattr(WeightPath, "point", lambda self, alpha: 1.01 * straight(self, alpha))
    with pytest.raises(NumericalError, match="alone has"):
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


def test_curvature_along_a_path_is_that_of_the_checkpoints_at_its_ends(runs: list[str]):
    """With BatchNorm's statistics recomputed, as `hessian --bn recompute` has them; every point starts near the one before."""
    result = sharpcli.interpolate(*runs, range="0:1", points=3, curvature=True, dtype="float64", split="train")
    found = result.curvature
    assert set(found.verdicts) == {"certified"}
    for place, path in ((0, runs[0]), (2, runs[1])):
        alone = sharpcli.hessian(path, topk=1, bn="recompute", dtype="float64")
        assert found.lambda_max[place] == pytest.approx(alone.lambda_max, rel=1e-3)
    assert found.along[0] is None
    assert found.along[2] is None
    low, middle, high = result.curves[0].loss
    assert found.along[1] == pytest.approx((low - 2 * middle + high) / 0.25 / result.distance**2, rel=1e-6)
    assert found.along[1] <= found.lambda_max[1]
    assert sharpcli.interpolate(*runs, points=3).curvature is None


def test_second_differences_of_a_parabola_are_exact_on_any_grid():
    places = [-1.0, -0.25, 0.0, 0.3, 1.0]
    found = second_differences(places, [3 * place**2 - place + 2 for place in places])
    assert found[0] is found[-1] is None
    assert found[1:-1] == pytest.approx([6, 6, 6])
    assert second_differences(places, [1.0, math.nan, 1.0, 1.0, 1.0])[1:4] == [None, None, 0]
    assert second_differences([0.0, 1.0], [1.0, 2.0]) == [None, None]


def test_the_curvature_along_a_straight_path_is_the_hessian_in_its_direction():
    """On linear regression, whose Hessian is the same everywhere: dᵀHd of the unit direction, and λmax."""
    from sharpcli.analyses.interpolate.curvature import path_curvature
    from tests.measures.test_closed_forms import regression

    made, hessian, _ = regression()
    start, end = made.parameters(), made.parameters() + torch.arange(6.0, dtype=torch.float64, device=DEVICE)
    alphas = [0.0, 0.4, 0.5, 1.0]
    losses = [made.loss(torch.lerp(start, end, alpha)) for alpha in alphas]
    length = float((end - start).norm())
    settings = InterpolateSettings(dtype="float64")
    found = path_curvature(made, alphas, losses, lambda alpha: (torch.lerp(start, end, alpha), {}), length, settings)
    direction = (end - start) / length
    assert found.along[1:3] == pytest.approx([float(direction @ hessian @ direction)] * 2, rel=1e-8)
    assert found.lambda_max == pytest.approx([float(torch.linalg.eigvalsh(hessian)[-1])] * 4, rel=1e-6)
    gap = path_curvature(made, alphas, [losses[0], math.inf, *losses[2:]], lambda alpha: (torch.lerp(start, end, alpha), {}),
                         length, settings)  # fmt: skip
    assert gap.lambda_max[1] is None
    assert gap.verdicts[1] == "no Hessian"


@pytest.mark.slow
def test_a_bezier_curve_goes_through_both_ends_and_is_trained_around_the_barrier(runs: list[str]):
    """Two seeds' solutions with BatchNorm: the straight path has a barrier, and the curve a lower one."""
    words = {"path": "bezier", "range": "0:1", "points": 7, "bezier_steps": 200, "bezier_batch": 30}
    first, again = (sharpcli.interpolate(*runs, **words) for _ in range(2))
    straight = sharpcli.interpolate(*runs, range="0:1", points=7)
    assert first.curves == again.curves
    in_parts = sharpcli.interpolate(*runs, **words, chunk_size=11)  # Memory, not the blocks that BatchNorm normalises.
    assert in_parts.curves[0].loss == pytest.approx(first.curves[0].loss, rel=1e-5)
    assert first.straight_barrier == pytest.approx(straight.barrier, rel=1e-6)
    assert straight.straight_barrier is None
    assert first.barrier < 0.8 * first.straight_barrier
    for place in (0, -1):
        assert first.curves[0].loss[place] == pytest.approx(straight.curves[0].loss[place], rel=1e-6)


@pytest.mark.slow
def test_the_control_point_of_a_bowl_is_where_it_should_be():
    """For f = ½ |H^½ (θ - θ*)|² the best curve minimises E f: C - θ* = -E[w ((1-α)² a + α² b)] / E[w²], w = 2α(1-α)."""
    from tests.measures.test_closed_forms import regression

    made, _, _ = regression(at_minimum=True)
    best = made.parameters()
    offsets = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0, 0]], dtype=torch.float64, device=DEVICE)
    start, end = best + offsets[0], best + offsets[1]
    found = trained_control(made, start, end, steps=6000, batch=40, seed=0)
    alpha = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    w = 2 * alpha * (1 - alpha)
    shares = [-(w * (1 - alpha) ** 2).mean() / (w**2).mean(), -(w * alpha**2).mean() / (w**2).mean()]
    wanted = best + shares[0] * offsets[0] + shares[1] * offsets[1]
    assert float((found - wanted).norm() / (end - start).norm()) < 0.05
    assert torch.equal(bezier(start, found, end, 0.0), start)
    assert torch.equal(bezier(start, found, end, 1.0), end)
