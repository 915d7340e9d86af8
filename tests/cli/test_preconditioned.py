"""`hessian --operator preconditioned` as a user would type it, held to the dense matrix in float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.cli.test_hessian import NAMES, SIZES, Net
from tests.nets import double_differentiation

Run = Callable[..., Any]
RATE, STEPS = 0.02, 30


def train(sharpcli: Run, tiny: list[str], out: Path, *more: object) -> Path:
    words = ["--mode", "fullbatch", "--lr", RATE, "--schedule", "constant", "--warmup", 0, "--clip", 0]
    done = sharpcli("train", *tiny, *words, "--steps", STEPS, "--out", out, *more)
    assert done.exit_code == 0, done.stderr
    return out / "fullbatch"


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory, sharpcli: Run, tiny: list[str]) -> Path:
    place = tmp_path_factory.mktemp("adam")
    return train(sharpcli, tiny, place, "--optimizer", "adam", "--weight-decay", 0, "--save-every", 10, "--dtype", "float64")


@pytest.fixture(scope="module")
def ask(sharpcli: Run) -> Callable[..., Any]:
    def run(*words: object) -> Any:
        answer = sharpcli("hessian", *words, "--operator", "preconditioned", "--dtype", "float64", "--json")
        assert answer.exit_code == 0, answer.stderr
        return json.loads(answer.stdout)["result"]

    return run


def scale_of(path: Path) -> Tensor:
    """Return P^{-1/2} from a file, by the formula of the paper and with plain torch."""
    kept = torch.load(path, weights_only=True)["optimizer"]
    (first, second), epsilon = kept["options"]["betas"], kept["options"]["eps"]
    parts = []
    for name in NAMES:
        step, moments = float(kept["tensors"][name]["step"]), kept["tensors"][name]["exp_avg_sq"].double().flatten()
        parts.append((1 - first**step) * ((moments / (1 - second**step)).sqrt() + epsilon))
    return torch.cat(parts) ** -0.5


def dense(path: Path, arrays: dict[str, np.ndarray]) -> Tensor:
    scale = scale_of(path)
    with double_differentiation():
        return scale[:, None] * Net(path, arrays).hessian() * scale


def down(matrix: Tensor) -> list[float]:
    return torch.linalg.eigvalsh(matrix).flip(0).tolist()


def values(result: dict[str, Any]) -> list[float]:
    return [one["value"] for one in result["eigenvalues"]]


@pytest.mark.parametrize("file", ["final.pt", "step-10.pt"])
def test_eigenvalues_and_threshold(file: str, adam: Path, ask: Callable[..., Any], arrays: dict[str, np.ndarray]):
    result, wanted = ask(adam / file, "--bottomk", 1), down(dense(adam / file, arrays))
    assert values(result) == pytest.approx([*wanted[:5], wanted[-1]], rel=2e-3)
    for one, exact in zip(result["eigenvalues"], [*wanted[:5], wanted[-1]], strict=True):
        assert one["interval"][0] <= exact <= one["interval"][1]
    assert result["stability_threshold"] == pytest.approx(38 / RATE)
    assert result["last_stability_threshold"] == pytest.approx(38 / RATE)
    assert result["sharpness_ratio"] == pytest.approx(result["lambda_max"] * RATE / 38)
    assert result["momentum_threshold"] is None
    made, diagonal = result["preconditioner"], scale_of(adam / file) ** -2
    assert (made["optimizer"], made["updates"]) == ("adam", {"final.pt": STEPS, "step-10.pt": 10}[file])
    assert made["learning_rate"] == RATE
    assert (made["smallest"], made["largest"]) == pytest.approx((float(diagonal.min()), float(diagonal.max())))
    assert (made["coefficient"], made["offset"], made["weight_decay_shift"]) == (pytest.approx(38), 0, None)


def test_trace_density_counts_and_layers(adam: Path, ask: Callable[..., Any], arrays: dict[str, np.ndarray]):
    result = ask(adam, "--trace", "--density", "--above", 1, "--per-layer")
    whole = dense(adam / "final.pt", arrays)
    trace = result["moments"]["trace"]
    assert trace["lower"] <= float(whole.trace()) <= trace["upper"]
    count = result["density"]["counts"][0]["count"]
    assert count["lower"] <= sum(value > 1 for value in down(whole)) <= count["upper"]
    for layer, block in zip(result["layers"], (whole[:24, :24], whole[24:, 24:]), strict=True):
        assert layer["lambda_max"] == pytest.approx(down(block)[0], rel=2e-3)
        assert layer["trace"]["lower"] <= float(block.trace()) <= layer["trace"]["upper"]


def test_a_block_has_no_threshold(adam: Path, ask: Callable[..., Any], arrays: dict[str, np.ndarray]):
    result = ask(adam, "--params", "3.*", "--topk", 3)
    assert values(result) == pytest.approx(down(dense(adam / "final.pt", arrays)[24:, 24:])[:3], rel=2e-3)
    assert result["stability_threshold"] is None
    assert result["sharpness_ratio"] is None


def test_a_part_of_the_samples_has_a_bracket(adam: Path, ask: Callable[..., Any]):
    result = ask(adam, "--samples", 30, "--topk", 1)
    low, high = result["data_bar"]["bracket"]
    assert low <= ask(adam, "--topk", 1)["lambda_max"] <= high


def test_a_foreign_checkpoint_with_numbered_parameters(adam: Path, ask: Callable[..., Any], tiny: list[str], tmp_path: Path):
    """The same state in the form of optimizer.state_dict() gives the same answer."""
    content = torch.load(adam / "final.pt", weights_only=True)
    kept = content["optimizer"]
    group = {**kept["options"], "betas": tuple(kept["options"]["betas"]), "params": list(range(len(NAMES)))}
    state = {place: kept["tensors"][name] for place, name in enumerate(NAMES)}
    torch.save({"model": content["state_dict"], "optimizer": {"state": state, "param_groups": [group]}}, tmp_path / "a.pt")
    result, own = ask(tmp_path / "a.pt", *tiny), ask(adam)
    assert values(result) == values(own)
    assert result["preconditioner"] == own["preconditioner"]
    assert result["stability_threshold"] == own["stability_threshold"]


def test_a_search_is_continued_with_the_same_p_only(adam: Path, ask: Callable[..., Any], sharpcli: Run, tmp_path: Path):
    state = tmp_path / "search"
    first = ask(adam, "--state", state, "--max-hvp", 6, "--tol", 1e-8)
    assert first["products"] < 20
    again = ask(adam, "--state", state, "--tol", 1e-8)
    assert values(again) == pytest.approx(values(ask(adam, "--tol", 1e-8)), rel=1e-7)
    moved = torch.load(adam / "final.pt", weights_only=True)
    for parts in moved["optimizer"]["tensors"].values():
        parts["exp_avg_sq"] *= 2
    torch.save(moved, tmp_path / "other.pt")
    words = ["--operator", "preconditioned", "--dtype", "float64", "--tol", 1e-8]
    refused = sharpcli("hessian", tmp_path / "other.pt", *words, "--state", state)
    assert refused.exit_code == 2
    assert "preconditioner" in refused.stderr


def test_along_a_run_it_is_drawn_against_its_threshold(adam: Path, sharpcli: Run, tmp_path: Path):
    plot = tmp_path / "edge.svg"
    answer = sharpcli("hessian", adam, "--operator", "preconditioned", "--along-run", "--topk", 1, "--plot", plot)
    assert answer.exit_code == 0, answer.stderr
    assert "38/lr" in answer.stdout
    assert "2/lr" not in answer.stdout
    assert f"38/lr = {38 / RATE:g} at the peak learning rate {RATE}" in answer.stdout
    assert "P = (1 − β₁ᵗ)(√(ν/(1 − β₂ᵗ)) + ε) of adam after 10 updates" in answer.stdout
    assert plot.stat().st_size > 1000


def test_weight_decay_of_either_kind(sharpcli: Run, tiny: list[str], ask: Callable[..., Any], tmp_path: Path):
    decay, found = 0.05, {}
    for name in ("adam", "adamw", "rmsprop"):
        words = ["--optimizer", name, "--weight-decay", decay, "--momentum", 0.8]
        run = train(sharpcli, tiny, tmp_path / name, *words)
        found[name] = ask(run, "--topk", 1, "--vectors", tmp_path / f"{name}.safetensors")
        found[name]["path"] = run / "final.pt"
    made = {name: result["preconditioner"] for name, result in found.items()}
    assert found["adam"]["stability_threshold"] == pytest.approx(3.6 / 0.2 / RATE)
    assert found["adamw"]["stability_threshold"] == pytest.approx(3.6 / 0.2 / RATE - decay * 1.8 / 0.2)
    assert found["rmsprop"]["stability_threshold"] == pytest.approx(3.6 / RATE)
    assert made["adamw"]["weight_decay_shift"] is None
    vector = load_file(tmp_path / "adam.safetensors")["eigenvectors"][0].double()
    wanted = decay * float((vector.square() * scale_of(found["adam"]["path"]).square()).sum())
    assert made["adam"]["weight_decay_shift"] == pytest.approx(wanted, rel=1e-5)


def test_a_batch_norm_net(sharpcli: Run, data_file: Path, ask: Callable[..., Any], tmp_path: Path):
    code = tmp_path / "net.py"
    code.write_text(
        "from torch import nn\n\n\ndef normed():\n"
        "    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))\n"
    )
    named = ["--model", f"{code}:normed", "--data", f"npz:{data_file}"]
    words = ["--steps", 5, "--batch-size", 20, "--optimizer", "adam", "--out", tmp_path / "run"]
    assert sharpcli("train", *named, *words).exit_code == 0
    for policy in ("eval", "recompute", "batch"):
        result = ask(tmp_path / "run" / "sgd", *named[:2], "--bn", policy, "--bn-block", 20, "--topk", 2)
        assert {one["verdict"] for one in result["eigenvalues"]} == {"certified"}
    assert sum(SIZES) == 39


REFUSED = [
    ("sgd", "is SGD, which has no second moments", "--operator hessian"),
    ("init", "does not hold the state of an optimizer", "train --optimizer adam"),
    ("weights", "does not hold the state of an optimizer", "optimizer.state_dict()"),
    ("groups", "several groups of parameters without names", "named_parameters()"),
    ("size", "has 2 parameters, but the model has 4", "named_parameters()"),
    ("rates", "option 'lr'", "one value"),
]


@pytest.mark.parametrize(("case", "words", "hint"), REFUSED)
def test_without_second_moments_it_says_what_is_missing(
    case: str, words: str, hint: str, adam: Path, runs: Path, tiny: list[str], sharpcli: Run, tmp_path: Path
):
    content = torch.load(adam / "final.pt", weights_only=True)
    weights, path = content["state_dict"], tmp_path / f"{case}.pt"
    named = [nn.Parameter(weights[name]) for name in NAMES]
    groups: list[dict[str, Any]] = {
        "groups": [{"params": named[:2]}, {"params": named[2:]}],
        "size": [{"params": named[:2]}],
        "rates": [{"params": [("1.weight", named[0])], "lr": 0.1}, {"params": [("1.bias", named[1])], "lr": 0.2}],
    }.get(case, [])
    if case in ("sgd", "init"):
        path = {"sgd": runs / "sgd" / "final.pt", "init": adam / "init.pt"}[case]
    elif case == "weights":
        torch.save(weights, path)
    else:
        optimizer = torch.optim.Adam(groups)
        for part in named:
            part.grad = torch.ones_like(part)
        optimizer.step()
        torch.save({"model": weights, "optimizer": optimizer.state_dict()}, path)
    answer = sharpcli("hessian", path, *tiny, "--operator", "preconditioned")
    assert answer.exit_code == 3
    assert answer.stdout == ""
    assert words in answer.stderr
    assert hint in answer.stderr.partition("hint")[2]
