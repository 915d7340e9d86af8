"""Language models: the built-in transformer from training to every analysis, with the unit of its loss beside each number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional

from sharpcli.models.resolve import resolve

SIZE = ["layers=1", "width=4", "heads=2"]
UNIT = "nats per token"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Return the options of a small model on a short text of five tokens, for training."""
    random = numpy.random.default_rng(0)
    numpy.savez(tmp_path / "text.npz", train=random.integers(0, 5, 61), test=random.integers(0, 5, 37))
    sizes = [word for size in SIZE for word in ("--model-arg", size)]
    return ["--model", "gpt", *sizes, "--data", f"tokens:{tmp_path / 'text.npz'}", "--data-arg", "length=6"]


def test_eigenvalues_are_those_of_the_dense_hessian(words: list[str], sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    trained = sharpcli("train", *words, "--steps", 3, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.stderr
    about = f"losses and gap in {UNIT}; accuracies of tokens; batch sizes count samples of 6 tokens"
    assert about in " ".join(trained.stdout.split())
    place = tmp_path / "run" / "sgd" / "final.pt"
    shown = sharpcli("hessian", place, "--topk", 3)
    assert f" {UNIT} (ce" in shown.stdout
    assert "N = 10 samples of 6 tokens" in " ".join(shown.stdout.split())
    answer = json.loads(sharpcli("hessian", place, "--topk", 3, "--dtype", "float64", "--json").stdout)["result"]

    model = resolve("gpt", input_shape=(6,), num_classes=5, arguments=SIZE).double()
    model.load_state_dict(torch.load(place, weights_only=True)["state_dict"])
    text = torch.from_numpy(numpy.load(tmp_path / "text.npz")["train"])
    inputs, targets = text[:60].reshape(10, 6), text[1:61].reshape(10, 6)
    start = {name: part.detach() for name, part in model.named_parameters()}
    sizes = [part.numel() for part in start.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = zip(start, theta.split(sizes), strict=True)
        weights = {name: part.reshape(start[name].shape) for name, part in parts}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            logits = functional_call(model, weights, (inputs,))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    theta = torch.cat([part.flatten() for part in start.values()])
    wanted = torch.linalg.eigvalsh(hessian(loss, theta)).flip(0)[:3]
    assert answer["conditions"]["num_parameters"] == len(theta)
    assert answer["loss"] == pytest.approx(float(loss(theta)), rel=1e-9)
    assert [one["value"] for one in answer["eigenvalues"]] == pytest.approx(wanted.tolist(), rel=1e-3)
    for one, value in zip(answer["eigenvalues"], wanted.tolist(), strict=True):
        assert one["interval"][0] <= value <= one["interval"][1]
    assert answer["conditions"]["loss_unit"] == UNIT
    assert answer["conditions"]["terms_per_sample"] == 6


@pytest.mark.slow
def test_every_command_tells_the_unit(sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    sizes = [word for size in SIZE for word in ("--model-arg", size)]
    run = ["train", "--model", "gpt", *sizes, "--data", "kjv-mini", "--mode", "sgd,largebatch", "--steps", 2]
    assert sharpcli(*run, "--optimizer", "adam", "--out", tmp_path / "run").exit_code == 0
    a, b = (tmp_path / "run" / mode for mode in ("sgd", "largebatch"))
    chains = "local-learning-coefficient:chains=2,steps=20,burn_in=0,batch=4,step_size=1e-5"
    lines = [
        ["hessian", a, "--topk", 1, "--operator", "preconditioned"],
        ["hessian", a, "--topk", 1, "--operator", "ggn", "--trace"],
        ["sharpness", a, "--measure", "critical-sharpness:direction=optimizer", "--measure", chains],
        ["sharpness", a, "--measure", "m-sharpness", "--measure", "gradient-noise", "--measure", "fisher-rao"],
        ["interpolate", a, b, "--points", 3, "--align"],
        ["surface", a, "--points", 3],
        ["compare", a, b, "--metrics", "hessian,distance", "--measure", "gradient-norm"],
    ]
    for line in lines:
        answer = sharpcli(*line, "--samples", 8)
        assert answer.exit_code == 0, answer.stderr
        assert UNIT in " ".join(answer.stdout.split()), line
        assert "samples of 64 tokens" in " ".join(answer.stdout.split()), line
    assert sharpcli("distance", a).exit_code == 0
    assert sharpcli("inspect", a).exit_code == 0
