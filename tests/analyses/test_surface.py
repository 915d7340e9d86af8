"""Surfaces of functions that are known: linear grids, quadratic bowls, planes through given points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import sharpcli
from sharpcli import checkpoints
from sharpcli.analyses.surface.grid import SavedGrid, fill
from sharpcli.analyses.surface.plane import eigen_plane, plane_through, principal_plane, random_plane
from sharpcli.errors import InputError, SettingsError
from sharpcli.objective import Objective
from tests.device import on_device
from tests.nets import objective
from tests.states import change_state

ALPHAS, BETAS = [-1.0, -0.5, 0.0, 0.5, 1.0], [-2.0, 0.0, 1.0]


def bowl(size: int = 5) -> Objective:
    random = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(30, width, generator=random, dtype=torch.float64) for width in (size, 1))
    model = nn.Linear(size, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    return Objective.of(model, inputs, targets, loss="mse", runtime=on_device("float64"))


def test_the_surface_of_a_linear_function_is_linear():
    """Peers walk their grids in a zig-zag and shift every second row by one cell."""
    found = fill(lambda alpha, beta: 3 + 2 * alpha - 5 * beta, ALPHAS, BETAS, SavedGrid(None, {}))
    wanted = 3 + 2 * numpy.array(ALPHAS)[None, :] - 5 * numpy.array(BETAS)[:, None]
    assert numpy.array_equal(found, wanted)


def test_the_surface_of_a_bowl_is_a_bowl():
    """In eigenvector axes the loss is base + α² + β²: 1 is where the quadratic has risen by 1."""
    made = bowl()
    theta = made.parameters()
    plane, base = eigen_plane(made, theta, 0), made.loss(theta)
    for alpha, beta in ((1.0, 0.0), (0.0, -1.0), (0.5, 0.7), (-2.0, 1.0)):
        assert made.loss(plane.point(alpha, beta)) - base == pytest.approx(alpha**2 + beta**2, rel=1e-5)


def test_random_axes_are_filter_normalised_and_nearly_at_right_angles():
    problem = objective("conv")
    theta = problem.parameters()
    plane = random_plane(problem, theta, 0)
    for axis in plane.axes:
        for name, part in problem.space.split(axis).items():
            weights = problem.space.split(theta)[name]
            if weights.ndim > 1:
                torch.testing.assert_close(part.flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1))
            else:
                assert not part.any()
    cosine = float(plane.axes[0] @ plane.axes[1] / plane.axes[0].norm() / plane.axes[1].norm())
    assert abs(cosine) < 0.5
    assert torch.equal(plane.axes, random_plane(problem, theta, 0).axes)
    assert not torch.equal(plane.axes, random_plane(problem, theta, 1).axes)


def test_a_plane_through_three_points_holds_them():
    torch.manual_seed(0)
    points = [torch.randn(50, dtype=torch.float64) for _ in range(3)]
    plane = plane_through(points, ["a", "b", "c"])
    for point, (_, alpha, beta, away) in zip(points, plane.marks, strict=True):
        torch.testing.assert_close(plane.point(alpha, beta), point, rtol=0, atol=1e-12)
        assert away == 0
    assert float(plane.axes[0] @ plane.axes[1]) == pytest.approx(0, abs=1e-10)
    assert float(plane.axes[0].norm()) == pytest.approx(float(plane.axes[1].norm()))
    with pytest.raises(InputError, match="one line"):
        plane_through([points[0], points[1], 2 * points[1] - points[0]], ["a", "b", "c"])


def test_the_principal_plane_of_a_flat_trajectory_is_its_plane():
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(40, 3, dtype=torch.float64))
    places = torch.tensor([[4.0, 1.0, 0.1], [2.0, -1.0, 0.0], [1.0, 0.5, -0.1], [0.0, 0.0, 0.0]], dtype=torch.float64)
    steps = [basis @ place for place in places]
    plane = principal_plane(steps, ["1", "2", "3", "4"])
    for step, (_, alpha, beta, away) in zip(steps, plane.marks, strict=True):
        assert float((plane.point(alpha, beta) - step).norm()) == pytest.approx(away, abs=1e-9)
    assert 0.99 < sum(plane.explained) < 1
    variances = numpy.linalg.svd(places[:3].numpy(), compute_uv=False) ** 2
    assert plane.explained == pytest.approx(tuple(variances[:2] / variances.sum()))
    with pytest.raises(InputError, match="three points"):
        principal_plane(steps[:2], ["1", "2"])
    with pytest.raises(InputError, match="one line"):
        principal_plane([3 * steps[0], 2 * steps[0], 0 * steps[0]], ["1", "2", "3"])


def test_coarse_points_come_first_and_each_once():
    seen: list[tuple[float, float]] = []

    def watch(alpha: float, beta: float) -> float:
        seen.append((alpha, beta))
        return 0.0

    alphas, betas = [float(i) for i in range(9)], [float(i) for i in range(5)]
    fill(watch, alphas, betas, SavedGrid(None, {}))
    assert len(seen) == len(set(seen)) == 45
    assert set(seen[:2]) == {(0.0, 0.0), (8.0, 0.0)}
    assert set(seen[:6]) == {(alpha, beta) for alpha in (0.0, 4.0, 8.0) for beta in (0.0, 4.0)}


def test_an_interrupted_surface_is_gone_on_with(tmp_path: Path):
    place, calls = tmp_path / "s.pt", 0

    def break_off(alpha: float, beta: float) -> float:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise KeyboardInterrupt
        return alpha * beta + 1

    with pytest.raises(KeyboardInterrupt):
        fill(break_off, ALPHAS, BETAS, SavedGrid(place, {"of": 1}))
    more: list[float] = []

    def go_on(alpha: float, beta: float) -> float:
        more.append(alpha)
        return alpha * beta + 1

    found = fill(go_on, ALPHAS, BETAS, SavedGrid(place, {"of": 1}))
    assert len(more) == 15 - 7
    assert numpy.array_equal(found, fill(lambda a, b: a * b + 1, ALPHAS, BETAS, SavedGrid(None, {})))
    with pytest.raises(SettingsError, match=r"differs in these settings: of\."):
        fill(go_on, ALPHAS, BETAS, SavedGrid(place, {"of": 2}))


def test_the_surface_of_a_checkpoint(runs: Path, tmp_path: Path, contents: Callable[[Path], dict[str, str]]):
    before = contents(runs)
    found = sharpcli.surface([runs / "sgd"], points=5)
    alone = sharpcli.hessian(runs / "sgd", topk=1)
    assert found.loss[2][2] == found.loss_at_origin == pytest.approx(alone.loss, rel=1e-7)
    assert len(found.loss) == len(found.loss[0]) == 5
    assert contents(runs) == before
    assert sharpcli.surface([runs / "sgd"], points=5).loss == found.loss  # To the bit: a peer adds noise to its maxima.
    again = sharpcli.surface([runs / "sgd"], points=5, chunk_size=7)
    assert numpy.allclose(found.loss, again.loss, rtol=1e-6)
    three = sharpcli.surface([runs / mode for mode in ("sgd", "largebatch", "fullbatch")], points=3)
    assert [mark.name for mark in three.marks] == ["sgd", "largebatch", "fullbatch"]
    along = sharpcli.surface([runs / "sgd"], axes="pca", points=3)
    assert [mark.name for mark in along.marks] == ["2", "4", "5"]
    assert sum(along.explained) == pytest.approx(1)  # Seen from the last of three points, two directions are all.


def test_points_that_are_not_finite_are_gaps_and_counted(runs: Path, tmp_path: Path, sharpcli: Callable[..., Any]):
    import json

    plot = tmp_path / "s.png"
    answer = sharpcli("surface", runs / "sgd", "--range", "-1e38:1e38", "--points", 5, "--plot", plot, "--json")
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    empty = sum(value is None for row in result["loss"] for value in row)
    assert result["not_finite"] == empty > 0
    assert result["loss"][2][2] is not None
    assert plot.stat().st_size > 10_000


def test_bad_words(runs: Path, sharpcli: Callable[..., Any], tmp_path: Path):
    checkpoints.write(tmp_path / "other.pt", {"w": torch.zeros(2)}, {})
    for words, word, code in (
        ([runs / "sgd", runs / "fullbatch"], "three", 2),
        ([runs / "sgd", "--axes", "best"], "axes", 2),
        ([runs / "sgd", "--range", "1:0"], "--range", 2),
        ([runs / "sgd", "--points", 1], "--points", 2),
        ([runs / "sgd" / "final.pt", "--axes", "pca"], "--save-every", 3),
        ([runs / "sgd", "--plot", "x.doc"], "png", 2),
    ):
        answer = sharpcli("surface", *words)
        assert answer.exit_code == code, answer.stderr
        assert answer.stdout == ""
        assert word in answer.stderr


@pytest.mark.parametrize(
    "name", ["no losses", "text", "another size", "another type", "no list of what is done", "another loss"]
)
def test_points_that_are_no_longer_what_was_written_are_refused(name: str, tmp_path: Path) -> None:
    place, axes = tmp_path / "x.pt", [0.0, 1.0]
    fill(lambda alpha, beta: alpha + beta, axes, axes, SavedGrid(place, {"of": "this"}))
    changes = {
        "no losses": lambda content: content.pop("loss"),
        "text": lambda content: content.update(loss="x"),
        "another size": lambda content: content.update(loss=torch.ones(3, 3, dtype=torch.float64)),
        "another type": lambda content: content.update(loss=torch.ones(2, 2)),
        "no list of what is done": lambda content: content.update(done=torch.ones(2, 2)),
        "another loss": lambda content: content["loss"].fill_(3.0),
    }
    change_state(place, changes[name], sealed=name != "another loss")
    with pytest.raises(InputError, match="holds no surface that can be continued"):
        fill(lambda alpha, beta: alpha + beta, axes, axes, SavedGrid(place, {"of": "this"}))
