"""Gradient descent drives λmax to 2/lr and keeps it there (Cohen et al. 2021): training and Hessian judged by each other."""

import json
from pathlib import Path

import numpy
import pytest

import sharpcli
from sharpcli.datasets.resolve import resolve
from tests.lanes import thinned


@pytest.mark.parametrize("rate", thinned([0.1, 0.2]))
def test_sharpness_hovers_at_two_over_the_learning_rate(rate: float, tmp_path: Path):
    data = resolve("fashion-mini", root="")
    parts = {"x_train": data.train.inputs[:300], "y_train": data.train.targets[:300]}
    parts |= {"x_test": data.test.inputs[:50], "y_test": data.test.targets[:50]}
    numpy.savez(tmp_path / "data.npz", **{name: part.numpy() for name, part in parts.items()})
    trained = sharpcli.train(
        mode="fullbatch",
        data=f"npz:{tmp_path / 'data.npz'}",
        model="mlp",
        model_arg=("hidden=40,40", "activation=tanh"),
        loss="mse",
        lr=rate,
        momentum=0.0,
        weight_decay=0.0,
        clip=0.0,
        schedule="constant",
        warmup=0.0,
        steps=600,
        save_every=100,
        eval_every=600,
        out=str(tmp_path / "run"),
    )
    ratios = []
    for step in (300, 400, 500, 600):
        result = sharpcli.hessian(Path(trained.rows[0].folder) / f"step-{step}.pt", topk=1)
        assert result.stability_threshold == pytest.approx(2 / rate)
        ratios.append(result.sharpness_ratio)
    assert min(ratios) > 0.8
    assert max(ratios) < 1.5
    assert trained.rows[0].train_loss < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rate", "momentum", "coefficient"), [("adam", 3e-3, 0.9, 38), ("rmsprop", 3e-4, 0.0, 2)])
def test_adaptive_optimizers_hover_at_their_own_edge(
    optimizer: str, rate: float, momentum: float, coefficient: float, tmp_path: Path
):
    """Cohen et al. 2022: λmax of the preconditioned Hessian settles at the threshold of the optimizer with a fixed P."""
    data = resolve("fashion-mini", root="")
    parts = {"x_train": data.train.inputs[:300], "y_train": data.train.targets[:300]}
    numpy.savez(tmp_path / "data.npz", **{name: part.numpy() for name, part in parts.items()})
    trained = sharpcli.train(
        recipe=("eos-adam",),
        optimizer=optimizer,
        data=f"npz:{tmp_path / 'data.npz'}",
        model="mlp",
        model_arg=("hidden=40,40", "activation=tanh"),
        lr=rate,
        momentum=momentum,
        steps=600,
        save_every=50,
        eval_every=600,
        track_sharpness=50,
        out=str(tmp_path / "run"),
    )
    folder = Path(trained.rows[0].folder)
    tracked = [json.loads(line) for line in (folder / "sharpness.jsonl").read_text().splitlines()]
    ratios = []
    for line in tracked[-6:]:
        result = sharpcli.hessian(folder / f"step-{line['step']}.pt", topk=1, operator="preconditioned")
        assert result.stability_threshold == line["threshold"] == pytest.approx(coefficient / rate)
        assert result.lambda_max == pytest.approx(line["preconditioned"]["lambda_max"], rel=2e-3)
        ratios.append(result.sharpness_ratio)
    assert min(ratios) > 0.8
    assert max(ratios) < 1.4
    assert tracked[1]["ratio"] < 0.7 * min(ratios) or optimizer == "rmsprop"
