"""Recipes, sweeps, averages and trackers of `sharpcli train` as a user meets them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sharpcli as package
from sharpcli.curvature.stability import largest_stable
from sharpcli.training.recipes import names, recipe_named
from tests.device import same

Run = Callable[..., Any]
NET = "from torch import nn\ndef net():\n    return nn.Sequential({layers})\n"
LAYERS = "nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 3)"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Name a small net with BatchNorm and dropout, and 40 images of 8 by 8 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    classes = np.arange(60) % 3
    images = random.normal(size=(60, 1, 8, 8)).astype(np.float32)
    images[np.arange(60), 0, classes] += 1
    np.savez(folder / "data.npz", x_train=images[:40], y_train=classes[:40], x_test=images[40:], y_test=classes[40:])
    (folder / "net.py").write_text(NET.format(layers=LAYERS))
    return ["--model", f"{folder / 'net.py'}:net", "--data", f"npz:{folder / 'data.npz'}"]


@pytest.fixture
def train(sharpcli: Run, pictures: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Train; give back the folder of the only run."""

    def go(*words: object, name: str = "out") -> Path:
        answer = sharpcli("train", *pictures, "--out", tmp_path / name, *words, "--json")
        assert answer.exit_code == 0, answer.stderr
        return Path(json.loads(answer.stdout)["result"]["rows"][0]["folder"])

    return go


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", names())
def test_every_recipe_runs(name: str, sharpcli: Run, pictures: list[str], tmp_path: Path) -> None:
    batch = [] if recipe_named(name).values["mode"] != ("sgd",) else ["--batch-size", 8]
    blocks = ["--ghost-bn", 4] if "ghost_bn" in recipe_named(name).values else []
    answer = sharpcli("train", "--recipe", name, *pictures, *batch, *blocks, "--steps", 4, "--out", tmp_path)
    assert answer.exit_code == 0, answer.stderr
    told = [line for line in answer.stderr.splitlines() if not line.startswith("warning: ")]
    assert told[1:] == [f"{name}: {recipe_named(name).source}: {recipe_named(name).where}"]
    set_here = told[0].removeprefix(f"{name}: ")
    assert set_here.startswith("--mode ")
    assert not {"--steps", "--epochs"} & set(set_here.split())  # What the user sets is not what the recipe sets.
    assert all(f"--{part}" in recipe_named(name).words() for part in set_here.split("--")[1:])
    about = torch.load(tmp_path / name / "final.pt", weights_only=True)["metadata"]
    assert about["recipe"] == about["name"] == name
    assert about["step"] == 4
    assert json.loads((tmp_path / name / "settings.json").read_text())["recipe"]["source"] == recipe_named(name).source


def test_a_recipe_is_what_its_words_are(train: Callable[..., Path]) -> None:
    words = shlex.split(recipe_named("geiping-reg").words())
    short = ["--steps", 5, "--warmup", 2]
    by_name = train("--recipe", "geiping-reg", *short, name="name")
    typed = [
        word for pair in zip(words[::2], words[1::2], strict=True) for word in pair if pair[0] not in ("--steps", "--warmup")
    ]
    by_hand = train(*typed, *short, name="hand")
    first, second = tensors(by_name / "final.pt"), tensors(by_hand / "final.pt")
    assert all(same(first[key], second[key]) for key in first)


def test_the_list_of_recipes(sharpcli: Run) -> None:
    answer = sharpcli("train", "--list-recipes")
    assert answer.exit_code == 0
    assert all(f"  {name} " in answer.stdout for name in names())
    rows = json.loads(sharpcli("train", "--list-recipes", "--json").stdout)["result"]["rows"]
    assert [row["name"] for row in rows] == names()
    assert all(row["source"] and row["sets"] for row in rows)


def test_a_sweep_trains_once_for_each_value(sharpcli: Run, pictures: list[str], tmp_path: Path) -> None:
    words = ["--steps", 3, "--batch-size", 8, "--sweep", "lr=0.01,0.1", "--sweep", "seed=0,1", "--out", tmp_path, "--json"]
    answer = sharpcli("train", *pictures, *words)
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    assert [row["name"] for row in result["rows"]] == [f"sgd-lr{lr}-seed{seed}" for lr in (0.01, 0.1) for seed in (0, 1)]
    assert [(row["learning_rate"], row["seed"]) for row in result["rows"]] == [(0.01, 0), (0.01, 1), (0.1, 0), (0.1, 1)]
    assert result["init_sha256"] is None  # Two seeds, two sets of initial weights.
    starts = [tensors(tmp_path / row["name"] / "init.pt")["0.weight"] for row in result["rows"]]
    assert torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], starts[1])
    labels = [
        found.checkpoint.label
        for found in package.compare([row["folder"] for row in result["rows"][:2]], model=pictures[1]).rows
    ]
    assert labels == ["sgd-lr0.01-seed0", "sgd-lr0.01-seed1"]


def test_a_swept_path_is_one_folder_inside_out(sharpcli: Run, pictures: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    first = sharpcli("train", *pictures, "--steps", 1, "--batch-size", 8, "--out", tmp_path / "first")
    assert first.exit_code == 0, first.stderr
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    sweep = f"init-from=../../first/sgd/init.pt,{tmp_path}/first/sgd/final.pt"
    answer = sharpcli("train", *pictures, "--steps", 1, "--batch-size", 8, "--out", "out", "--sweep", sweep)
    assert answer.exit_code == 0, answer.stderr
    runs = [path.parent for path in tmp_path.rglob("final.pt") if path.parent.name != "sgd"]
    assert len(runs) == 2
    assert all(run.parent == tmp_path / "a" / "b" / "out" for run in runs)
    clash = sharpcli("train", *pictures, "--steps", 1, "--out", "out2", "--sweep", "init-from=x/a.pt,x-a.pt")
    assert clash.exit_code == 2
    assert "same folder" in clash.stderr


def test_one_value_of_a_sweep_is_the_run_of_that_option(train: Callable[..., Path], sharpcli: Run) -> None:
    swept = train("--steps", 3, "--batch-size", 8, "--sweep", "lr=0.02", name="swept")
    alone = train("--steps", 3, "--batch-size", 8, "--lr", 0.02, name="alone")
    first, second = tensors(swept / "final.pt"), tensors(alone / "final.pt")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_averages_are_those_of_the_saved_steps(train: Callable[..., Path], pictures: list[str]) -> None:
    """With BatchNorm's statistics recomputed for the average, and the last iterate saved beside them."""
    spec = [
        "--steps",
        10,
        "--batch-size",
        8,
        "--schedule",
        "constant",
        "--save-every",
        1,
        "--average",
        "tail:0.5,ema:0.8,swa:0.4",
    ]
    folder = train(*spec)
    steps = {0: tensors(folder / "init.pt")} | {step: tensors(folder / f"step-{step}.pt") for step in range(1, 11)}
    weights = {"tail": dict.fromkeys(range(6, 11), 1 / 5), "swa": {5: 0.5, 10: 0.5}}
    weights["ema"] = {0: 0.8**10} | {step: 0.2 * 0.8 ** (10 - step) for step in range(1, 11)}
    plain = tensors(folder / "final.pt")
    for kind, shares in weights.items():
        found = tensors(folder / f"{kind}.pt")
        for key in ("0.weight", "1.bias", "5.weight"):
            wanted = sum(share * steps[step][key].double() for step, share in shares.items())
            torch.testing.assert_close(found[key].double(), wanted, rtol=0, atol=1e-6)
        assert not torch.equal(found["1.running_mean"], plain["1.running_mean"])
        again = package.interpolate(folder / f"{kind}.pt", folder / f"{kind}.pt", points=2, model=pictures[1])
        told = torch.load(folder / f"{kind}.pt", weights_only=True)["metadata"]["final"]
        assert again.curves[0].loss[0] == pytest.approx(told["train_loss"], rel=1e-4)  # Recomputed there too.
    assert {path.name for path in folder.glob("*.pt")} >= {"final.pt", "tail.pt", "ema.pt", "swa.pt"}


def test_an_average_that_has_not_begun_is_told(sharpcli: Run, pictures: list[str], tmp_path: Path) -> None:
    words = ["--steps", 100, "--stop-train-loss", 100.0, "--eval-every", 1, "--average", "tail:0.5", "--out", tmp_path]
    answer = sharpcli("train", *pictures, "--batch-size", 8, *words)
    assert answer.exit_code == 0
    assert "tail" in answer.stderr
    assert not (tmp_path / "sgd" / "tail.pt").exists()


def test_distances_are_of_all_parameters_and_log_spaced(train: Callable[..., Path]) -> None:
    """The authors' code of Hoffer 2017 logs the first tensor alone; buffers are no weights."""
    folder = train("--steps", 30, "--batch-size", 8, "--save-every", 5)
    found = {line["step"]: line["distance"] for line in lines(folder / "distances.jsonl")}
    assert list(found)[:10] == list(range(1, 11))
    assert set(found) == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 18, 20, 22, 25, 28}
    parameters = ("0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias")
    init = tensors(folder / "init.pt")
    for step in (5, 10, 20, 25):
        there = tensors(folder / f"step-{step}.pt")
        total = sum(float((there[name].double() - init[name].double()).square().sum()) for name in parameters)
        assert found[step] == pytest.approx(total**0.5, rel=1e-6)


def test_the_sharpness_that_is_tracked_is_that_of_the_training_loss(train: Callable[..., Path], pictures: list[str]) -> None:
    """With BatchNorm in its blocks: the same number as an analysis of a saved step with --bn batch, not as of --bn eval."""
    plain = ["--momentum", 0, "--weight-decay", 0, "--clip", 0, "--warmup", 0, "--schedule", "constant", "--lr", 0.05]
    folder = train("--mode", "fullbatch", *plain, "--steps", 20, "--save-every", 10, "--track-sharpness", 10, "--ghost-bn", 40)
    found = {line["step"]: line for line in lines(folder / "sharpness.jsonl")}
    assert list(found) == [0, 10, 20]
    for step in (10, 20):
        path, model = folder / f"step-{step}.pt", pictures[1]
        same = package.hessian(path, topk=1, model=model, bn="batch", bn_block=40)
        assert found[step]["lambda_max"] == pytest.approx(same.lambda_max, rel=1e-3)
        assert found[step]["low"] <= found[step]["lambda_max"] <= found[step]["high"]
        other = package.hessian(path, topk=1, model=model)
        assert abs(other.lambda_max / same.lambda_max - 1) > 0.01
        assert found[step]["threshold"] == pytest.approx(2 / 0.05)
        assert found[step]["ratio"] == pytest.approx(found[step]["lambda_max"] / 40)


@pytest.mark.parametrize("rule", ["polyak", "nesterov"])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_edge_of_stability_of_the_optimizer_itself(rule: str, momentum: float) -> None:
    """On ½ λ x² torch's SGD converges just below the largest stable λ, and diverges just above it."""
    edge = largest_stable(0.1, momentum, rule)
    ends = []
    for curvature in (0.97 * edge, 1.03 * edge):
        place = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        optimizer = torch.optim.SGD([place], lr=0.1, momentum=momentum, nesterov=momentum > 0 and rule == "nesterov")
        for _ in range(2000):
            place.grad = curvature * place.detach()
            optimizer.step()
        ends.append(abs(float(place.detach())))
    assert ends[0] < 1e-3
    assert ends[1] > 1e3


def test_heavy_ball_has_its_own_threshold_in_an_analysis(train: Callable[..., Path], pictures: list[str]) -> None:
    spec = ["--steps", 2, "--batch-size", 8, "--lr", 0.1, "--momentum", 0.9]
    polyak, nesterov = (train(*spec, "--momentum-rule", rule, name=rule) for rule in ("polyak", "nesterov"))
    limits = [package.hessian(folder, topk=1, model=pictures[1]).momentum_threshold for folder in (polyak, nesterov)]
    assert limits == pytest.approx([38, 38 / 2.8])


def test_smoothing_is_in_training_and_not_in_what_is_reported(train: Callable[..., Path], pictures: list[str]) -> None:
    smooth = train("--steps", 5, "--batch-size", 8, "--label-smoothing", 0.3, name="smooth")
    plain = train("--steps", 5, "--batch-size", 8, name="plain")
    assert not torch.equal(tensors(smooth / "final.pt")["5.weight"], tensors(plain / "final.pt")["5.weight"])
    told = torch.load(smooth / "final.pt", weights_only=True)["metadata"]
    result = package.hessian(smooth, topk=1, model=pictures[1])
    assert result.loss == pytest.approx(told["final"]["train_loss"], rel=1e-5)
    assert any("label smoothing" in warning for warning in result.warnings)


def test_a_warm_start_begins_at_a_saved_step_of_another_run(train: Callable[..., Path]) -> None:
    """Keskar's Figure 5: large batches from where small ones were; statistics of BatchNorm come along."""
    first = train("--steps", 10, "--batch-size", 8, "--save-every", 5, name="small")
    second = train("--mode", "largebatch", "--steps", 3, "--init-from", first / "step-5.pt", name="large")
    start, there = tensors(second / "init.pt"), tensors(first / "step-5.pt")
    assert all(torch.equal(start[key], there[key]) for key in start)


REFUSED = [
    (["--recipe", "keskar"], "keskar-sb", 2),
    (["--sweep", "lr"], "lr=0.01", 2),
    (["--sweep", "lr=a,b"], "lr=0.01", 2),
    (["--sweep", "lrr=1"], "lr", 2),
    (["--sweep", "out=a,b"], "out", 2),
    (["--sweep", "lr=1,1"], "twice", 2),
    (["--sweep", "lr=1", "--sweep", "lr=2"], "twice", 2),
    (["--average", "mean:0.5"], "average", 2),
    (["--average", "tail"], "tail:0.5", 2),
    (["--average", "ema:1"], "ema:0.999", 2),
    (["--average", "tail:0.5,tail:0.6"], "twice", 2),
    (["--drops", "10"], "--drops", 2),
    (["--drops", "10:0.1,5:0.1"], "--drops", 2),
    (["--sam", "0.1", "--asam", "1"], "--sam", 2),
    (["--sam", "-1"], "--sam", 2),
    (["--augment", "flop"], "flip", 2),
    (["--augment-copies", "3"], "--augment", 2),
    (["--label-smoothing", "1"], "--label-smoothing", 2),
    (["--label-smoothing", "0.1", "--loss", "mse"], "--label-smoothing", 2),
    (["--regime-adapt", "--steps", "5"], "--regime-adapt", 2),
    (["--mode", "fullbatch", "--shuffle", "replacement"], "replacement", 2),
    (["--chunk-size", "4"], "--ghost-bn", 2),
    (["--ghost-bn", "1"], "one sample", 2),
    (["--momentum-rule", "adam"], "momentum-rule", 2),
    (["--recipe", "sam", "--mode", "sgd,fullbatch"], "one --mode", 2),
    (["--steps", "1000000000", "--save-every", "1"], "MiB", 3),
]


@pytest.mark.parametrize(("words", "word", "code"), REFUSED, ids=lambda part: " ".join(part) if isinstance(part, list) else "")
def test_what_cannot_work_is_refused_before_any_work(
    words: list[str], word: str, code: int, sharpcli: Run, pictures: list[str], tmp_path: Path
) -> None:
    answer = sharpcli("train", *pictures, "--out", tmp_path / "out", *words)
    assert answer.exit_code == code, answer.stderr
    assert answer.stdout == ""
    assert [line.partition(" ")[0] for line in answer.stderr.splitlines()] == ["error:", "hint:"]
    assert word in answer.stderr
    assert not (tmp_path / "out").exists()


def test_augmenting_what_is_no_image_is_refused(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    answer = sharpcli("train", *tiny, "--augment", "flip", "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert "(5,)" in answer.stderr
    assert not (tmp_path / "out").exists()
