"""Gradient descent drives λmax to 2/lr and keeps it there (Cohen et al. 2021): training and Hessian judged by each other."""

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
