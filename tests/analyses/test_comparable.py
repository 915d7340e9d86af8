"""What is not of one model, loss and data does not stand on one path or in one plane, and is told so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import sharpcli
from sharpcli import checkpoints
from sharpcli.errors import InputError, SettingsError


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return checkpoints that have the same tensors, but for one."""
    folder = tmp_path_factory.mktemp("kinds")
    random, classes = numpy.random.default_rng(0), numpy.arange(60) % 3
    for name in ("one", "other"):
        images = random.normal(size=(60, 1, 4, 4)).astype(numpy.float32)
        numpy.savez(folder / name, x_train=images[:40], y_train=classes[:40], x_test=images[40:], y_test=classes[40:])
    made = {}
    for name, hidden, activation, loss, data, seed in (
        ("first", 6, "relu", "ce", "one", 0),
        ("second", 6, "relu", "ce", "one", 1),
        ("third", 6, "relu", "ce", "one", 2),
        ("wider", 7, "relu", "ce", "one", 0),
        ("tanh", 6, "tanh", "ce", "one", 0),
        ("mse", 6, "relu", "mse", "one", 0),
        ("data", 6, "relu", "ce", "other", 0),
    ):
        trained = sharpcli.train(
            model="mlp", model_arg=(f"hidden={hidden}", f"activation={activation}"), loss=loss, seed=seed,
            data=f"npz:{folder / data}.npz", steps=5, out=str(folder / name),
        )  # fmt: skip
        made[name] = trained.rows[0].folder
    return made


@pytest.mark.parametrize(
    ("other", "words"),
    [("wider", "architectures"), ("tanh", "their models differ"), ("mse", "ce and mse"), ("data", "different data")],
)
def test_a_path_or_plane_through_what_differs_is_refused(kinds: dict[str, str], other: str, words: str):
    with pytest.raises(InputError, match=words):
        sharpcli.interpolate(kinds["first"], kinds[other])
    with pytest.raises(InputError, match=words):
        sharpcli.surface([kinds["first"], kinds["second"], kinds[other]])


def test_the_user_may_say_which_loss_and_data(kinds: dict[str, str], tmp_path: Path):
    found = sharpcli.interpolate(kinds["first"], kinds["mse"], loss="mse", points=3, range="0:1", split="train")
    assert found.curves[0].loss[-1] == pytest.approx(sharpcli.hessian(kinds["mse"], topk=1).loss, rel=1e-5)
    assert sharpcli.surface([kinds[name] for name in ("first", "second", "third")], points=2).marks[2].name == "sgd"


def test_a_table_of_what_differs_warns(kinds: dict[str, str], sharpcli: Callable[..., Any]):
    answer = sharpcli("compare", kinds["first"], kinds["mse"], "--metrics", "distance")
    assert "cannot be compared" in answer.stderr
    assert "cannot be compared" not in sharpcli("compare", kinds["first"], kinds["tanh"], "--metrics", "distance").stderr


def test_weights_whose_loss_is_not_finite_are_told_as_such(kinds: dict[str, str], tmp_path: Path, sharpcli: Callable[..., Any]):
    first = checkpoints.read(kinds["first"])
    state = {name: tensor * (1e30 if tensor.ndim > 1 else 1) for name, tensor in first.state.items()}
    checkpoints.write(tmp_path / "big.pt", state, {**first.metadata, "final": {}})
    answer = sharpcli("interpolate", kinds["first"], tmp_path / "big.pt")
    assert answer.exit_code == 4
    assert "big.pt is not finite" in answer.stderr


def test_there_is_no_barrier_where_a_loss_between_is_not_finite(kinds: dict[str, str], tmp_path: Path):
    """Two versions of one function, rescaled so that what lies between them overflows."""
    first, ends = checkpoints.read(kinds["first"]), []
    names = [name for name, tensor in first.state.items() if tensor.ndim > 1]
    biases = [name for name, tensor in first.state.items() if tensor.ndim == 1]
    for number, factor in enumerate((1e25, 1e-25)):
        state = dict(first.state)
        state[names[0]], state[names[1]] = state[names[0]] * factor, state[names[1]] / factor
        state[biases[0]] = state[biases[0]] * factor
        ends.append(tmp_path / f"{number}.pt")
        checkpoints.write(ends[-1], state, {**first.metadata, "final": {}})
    found = sharpcli.interpolate(*ends, points=3, range="0:1", split="train")
    assert found.curves[0].not_finite == 1
    assert found.barrier is None
    assert found.curves[0].barrier_alpha is None


def test_a_surface_goes_on_only_with_the_same_data_and_plane(kinds: dict[str, str], tmp_path: Path):
    place = str(tmp_path / "s.pt")
    sharpcli.surface([kinds["first"]], points=2, state=place)
    with pytest.raises(SettingsError, match="differs in these settings"):
        sharpcli.surface([kinds["first"]], points=2, state=place, loss="mse")
    with pytest.raises(SettingsError, match="differs in these settings"):
        sharpcli.surface([kinds["first"]], points=2, state=place, seed=1)
    with pytest.raises(SettingsError, match="axes"):
        sharpcli.surface([kinds["first"], kinds["second"], kinds["third"]], axes="eigen")


def test_the_fit_is_of_the_distances_from_the_weights_that_were_named(kinds: dict[str, str], tmp_path: Path):
    own = sharpcli.distance(kinds["first"])
    other = sharpcli.distance(kinds["first"], init=f"{kinds['second']}/final.pt")
    assert own.growth is not None or own.steps == ()
    assert other.growth is None or other.growth.distances != own.growth.distances


def test_saved_steps_of_others_are_in_the_order_of_their_names(kinds: dict[str, str], tmp_path: Path):
    state = checkpoints.read(kinds["first"]).state
    for step in (5, 10, 100, 20):
        torch.save({name: tensor * step for name, tensor in state.items()}, tmp_path / f"step-{step}.pt")
    torch.save({name: tensor * 200 for name, tensor in state.items()}, tmp_path / "final.pt")
    torch.save({name: tensor * 0 for name, tensor in state.items()}, tmp_path / "start.pt")
    found = sharpcli.distance(tmp_path, init=str(tmp_path / "start.pt"))
    assert [one.norm / found.steps[0].norm for one in found.steps] == pytest.approx([1, 2, 4, 20, 40])
    assert found.trajectory.straightness == pytest.approx(1)
    torch.save(state, tmp_path / "step-last.pt")
    with pytest.raises(InputError, match="step-last"):
        sharpcli.distance(tmp_path, init=str(tmp_path / "start.pt"))
