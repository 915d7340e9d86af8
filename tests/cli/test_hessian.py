"""The command line of `hessian` as a user would type it: every option, what it changes, and what it must not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from sharpcli.runtime import generator
from sharpcli.settings import HessianSettings
from tests.conftest import without_progress
from tests.nets import double_differentiation
from tests.processes import Machine
from tests.states import change_state

Run = Callable[..., Any]
NAMES = ("1.weight", "1.bias", "3.weight", "3.bias")
SHAPES = {"1.weight": (4, 5), "1.bias": (4,), "3.weight": (3, 4), "3.bias": (3,)}
SIZES = [20, 4, 12, 3]
TENSORS = (slice(0, 20), slice(20, 24), slice(24, 36), slice(36, 39))
CODE = """
import torch
from torch import nn
from torch.nn import functional


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.last(functional.dropout(torch.relu(self.first(inputs)), 0.3))


class Folding(nn.Module):
    '''A sum of squares of the weights: its Hessian is the same in every direction, with a sign that the data choose.'''

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, inputs):
        raised = 5 * self.weight.square().sum().expand(len(inputs))
        return torch.stack([raised, 0 * raised, 0 * raised], 1)


def dropping():
    return Dropping()


def folding():
    return Folding()


def normed():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))


def small():
    return nn.Linear(1, 3, bias=False)
"""


@pytest.fixture(scope="module")
def several(sharpcli: Run) -> Callable[..., list[dict[str, Any]]]:
    """Run `hessian`, which must succeed without a warning, and give back its results."""

    def run(*words: object) -> list[dict[str, Any]]:
        answer = sharpcli("hessian", *words, "--json")
        assert answer.exit_code == 0, answer.stderr
        assert answer.said() == ""
        result = json.loads(answer.stdout)["result"]
        return result.get("checkpoints", [result])

    return run


@pytest.fixture(scope="module")
def ask(several: Callable[..., list[dict[str, Any]]]) -> Callable[..., dict[str, Any]]:
    def run(*words: object) -> dict[str, Any]:
        (result,) = several(*words)
        return result

    return run


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "net.py"
    path.write_text(CODE)
    return path


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory, sharpcli: Run, code: Path, data_file: Path) -> list[object]:
    """Name a trained model with BatchNorm, and its code."""
    out = tmp_path_factory.mktemp("normed")
    named = ["--model", f"{code}:normed"]
    done = sharpcli("train", *named, "--data", f"npz:{data_file}", "--steps", 5, "--batch-size", 20, "--out", out)
    assert done.exit_code == 0, done.stderr
    return [out / "sgd", *named]


class Net:
    """The tiny checkpoint, written out in PyTorch in float64."""

    def __init__(self, path: Path, arrays: dict[str, np.ndarray], part: str = "train") -> None:
        state = torch.load(path, weights_only=True)["state_dict"]
        self.theta = torch.cat([state[name].double().flatten() for name in NAMES])
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
        self.inputs = torch.from_numpy(arrays[f"x_{part}"]).double()
        self.targets = torch.from_numpy(arrays[f"y_{part}"])

    def outputs(self, theta: Tensor) -> Tensor:
        parts = dict(zip(NAMES, theta.split(SIZES), strict=True))
        return functional_call(self.model, {name: part.view(SHAPES[name]) for name, part in parts.items()}, (self.inputs,))

    def hessian(self, loss: str = "ce") -> Tensor:
        def mean(theta: Tensor) -> Tensor:
            outputs = self.outputs(theta)
            if loss == "mse":
                return 0.5 * (outputs - nn.functional.one_hot(self.targets, 3)).square().sum(1).mean()
            return nn.functional.cross_entropy(outputs, self.targets)

        with double_differentiation():
            return torch.func.jacfwd(torch.func.grad(mean))(self.theta)

    def ggn(self) -> Tensor:
        """Return the mean of J_iᵀ (diag p_i - p_i p_iᵀ) J_i."""
        with double_differentiation():
            jacobian = torch.func.jacfwd(self.outputs)(self.theta)
        chances = torch.softmax(self.outputs(self.theta), 1)
        middle = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None, :]
        return torch.einsum("ncp,ncd,ndq->pq", jacobian, middle, jacobian) / len(chances)

    def empirical_fisher(self) -> Tensor:
        def each(theta: Tensor) -> Tensor:
            return nn.functional.cross_entropy(self.outputs(theta), self.targets, reduction="none")

        with double_differentiation():
            slopes = torch.func.jacfwd(each)(self.theta)
        return slopes.T @ slopes / len(slopes)


@pytest.fixture(scope="module")
def net(final: Path, arrays: dict[str, np.ndarray]) -> Net:
    return Net(final, arrays)


def down(matrix: Tensor) -> list[float]:
    """Return the eigenvalues, largest first."""
    return torch.linalg.eigvalsh(matrix).flip(0).tolist()


def values(result: dict[str, Any]) -> list[float]:
    return [one["value"] for one in result["eigenvalues"]]


def near(result: dict[str, Any], wanted: list[float]) -> bool:
    return values(result) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def covers(found: dict[str, Any], truth: float) -> bool:
    return found["lower"] - 1e-5 <= truth <= found["upper"] + 1e-5


def without(value: Any, *names: str) -> Any:
    if isinstance(value, dict):
        return {key: without(item, *names) for key, item in value.items() if key not in names}
    return [without(item, *names) for item in value] if isinstance(value, list) else value


# Each option with what it must do to the answer; `net` knows the exact matrix.
OPTIONS: dict[str, tuple[str, Callable[[dict[str, Any], Net], bool]]] = {
    "topk": ("--topk 7", lambda r, net: near(r, down(net.hessian())[:7])),
    "bottomk": (
        "--topk 2 --bottomk 3",
        lambda r, net: (
            near(r, [*down(net.hessian())[:2], *down(net.hessian())[-3:]])
            and [one["index"] for one in r["eigenvalues"]] == [1, 2, -3, -2, -1]
            and [one["verified"] for one in r["eigenvalues"]] == [True, False, False, False, True]
        ),
    ),
    "which": (
        "--which SA --topk 2",
        lambda r, net: near(r, down(net.hessian())[:-3:-1]) and [one["index"] for one in r["eigenvalues"]] == [-1, -2],
    ),
    "tol": (
        "--tol 1e-6 --dtype float64 --certify all",
        lambda r, _: r["converged"] and all(one["residual"] <= 1e-6 * abs(one["value"]) for one in r["eigenvalues"]),
    ),
    "max_hvp": (
        "--max-hvp 7",
        lambda r, _: r["products_by_use"]["lanczos"] == 7 and r["ended"] == "products" and not r["converged"],
    ),
    "max_minutes": ("--max-minutes 1e-9", lambda r, _: r["ended"] == "seconds" and "--max-minutes" in r["advice"]),
    "memory": ("--memory 5KiB", lambda r, net: near(r, down(net.hessian())[:5]) and r["converged"]),
    "certify": (
        "--certify all",
        lambda r, _: all(one["verified"] for one in r["eigenvalues"]) and r["products_by_use"]["verification"] == 5,
    ),
    "confirm": (
        "--confirm 0",
        lambda r, net: (
            near(r, down(net.hessian())[:5])
            and "confirmation" not in r["products_by_use"]
            and not any(one["index_confirmed"] for one in r["eigenvalues"][1:])  # The ceiling confirms the first.
        ),
    ),
    "engine": (
        "--engine forward-over-reverse",
        lambda r, net: near(r, down(net.hessian())[:5]) and not r["conditions"]["engine"].startswith("double backward"),
    ),
    "operator": ("--operator ggn", lambda r, net: near(r, down(net.ggn())[:5])),
    "params": (
        "--params 3.* --params 1.bias",
        lambda r, net: (
            near(r, down(net.hessian()[20:, 20:])[:5])
            and r["conditions"]["num_parameters"] == 19
            and r["dead_parameters"] == {"1.weight": "not selected"}
            and r["stability_threshold"] is None
        ),
    ),
    "bn": ("--bn recompute", lambda r, net: near(r, down(net.hessian())[:5]) and r["conditions"]["batch_norm"] == "none"),
    "bn_block": ("--bn batch --bn-block 7", lambda r, net: near(r, down(net.hessian())[:5])),
    "split": ("--split test", lambda r, _: r["conditions"]["split"] == "test" and r["conditions"]["num_samples"] == 30),
    "trace": (
        "--trace",
        lambda r, net: (
            covers(r["moments"]["trace"], float(net.hessian().trace()))
            and covers(r["moments"]["frobenius_norm"], float(net.hessian().norm()))
        ),
    ),
    "trace_tol": ("--trace --trace-tol 0.5 --topk 1", lambda r, _: 0 < r["moments"]["products"] < 20),
    "density": (
        "--density --plot {plot}",
        lambda r, _: sum(r["density"]["weights"]) == pytest.approx(1, abs=1e-9) and r["density"]["cdf"][-1] > 0.999,
    ),
    "probes": ("--density --probes 3 --density-steps 5 --topk 1", lambda r, _: r["density"]["probes"] == 3),
    "density_steps": (
        "--density --probes 2 --density-steps 4 --topk 1",
        lambda r, _: r["density"]["products"] == r["products_by_use"]["density"] == 8,
    ),
    "above": (
        "--above 1.3,0.5,-0.2",
        lambda r, net: all(
            covers(one["count"], sum(value > one["threshold"] for value in down(net.hessian())))
            for one in r["density"]["counts"]
        ),
    ),
    "ggn_split": ("--ggn-split", lambda r, net: r["parts"] == pytest.approx(parts(net), rel=1e-4)),
    "per_layer": ("--per-layer", lambda r, net: layers_are_right(r["layers"], net.hessian())),
    "blocks": (
        "--per-layer --blocks parameter --density",
        lambda r, net: (
            [layer["name"] for layer in r["layers"]] == list(NAMES)
            and all(block_is_right(layer, net.hessian()[own, own]) for layer, own in zip(r["layers"], TENSORS, strict=True))
            and len(r["block_distances"]["distances"]) == len(NAMES)
        ),
    ),
    "along_run": ("--along-run", lambda r, _: [one["checkpoint"]["step"] for one in r] == [0, 2, 4, 5]),
    "vectors": ("--vectors {vectors}", lambda r, net: near(r, down(net.hessian())[:5])),
    "state": ("--state {state}", lambda r, net: near(r, down(net.hessian())[:5])),
    "model": ("--model mlp", lambda r, net: near(r, down(net.hessian())[:5])),
    "model_arg": ("--model-arg hidden=4", lambda r, net: near(r, down(net.hessian())[:5])),
    "data": ("--data npz:{data}", lambda r, net: near(r, down(net.hessian())[:5])),
    "loss": ("--loss mse", lambda r, net: near(r, down(net.hessian("mse"))[:5])),
    "device": ("--device cpu", lambda r, _: r["conditions"]["device"] == "cpu"),
    "dtype": (
        "--dtype float64 --tol 1e-5",  # The error of a value is of the order of its residual squared.
        lambda r, net: r["rounding"] < 1e-14 and values(r) == pytest.approx(down(net.hessian())[:5], rel=1e-7),
    ),
    "seed": ("--seed 3", lambda r, net: near(r, down(net.hessian())[:5])),
    "samples": (
        "--samples 30",
        lambda r, _: r["conditions"]["num_samples"] == 30 == r["data_bar"]["held_out_samples"],
    ),
    "chunk_size": ("--chunk-size 7", lambda r, net: near(r, down(net.hessian())[:5]) and r["conditions"]["chunk_size"] == 7),
}
# Nothing of an npz file: tests/datasets. What is compiled: tests/cli/test_engines.py. Answers that are no tensor: tests/cases.
ELSEWHERE = {
    "allow_pickle",
    "data_arg",
    "data_root",
    "deterministic",
    "download",
    "compile",
    "ignore_keys",
    "num_classes",
    "output",
    "transform",
    "weights",
}


def parts(net: Net) -> dict[str, float]:
    _, vectors = torch.linalg.eigh(net.hessian())
    top = vectors[:, -1]
    whole, ggn = (float(top @ matrix @ top) for matrix in (net.hessian(), net.ggn()))
    return {"hessian": whole, "ggn": ggn, "rest": whole - ggn}


def layers_are_right(layers: list[dict[str, Any]], hessian: Tensor) -> bool:
    first, last = hessian[:24, :24], hessian[24:, 24:]
    _, vectors = torch.linalg.eigh(hessian)
    shares = vectors[:24, -1].square().sum(), vectors[24:, -1].square().sum()
    for layer, name, block, share in zip(layers, ("1", "3"), (first, last), shares, strict=True):
        assert (layer["name"], layer["num_parameters"]) == (name, len(block))
        assert layer["lambda_max"] == pytest.approx(down(block)[0], rel=1e-4)
        assert layer["share"] == pytest.approx(float(share), rel=1e-3)
        assert covers(layer["trace"], float(block.trace()))
    return True


def block_is_right(layer: dict[str, Any], block: Tensor) -> bool:
    """A block of a few parameters has an exact density."""
    values = torch.linalg.eigvalsh(block)
    assert layer["lambda_max"] == pytest.approx(float(values[-1]), rel=1e-4)
    assert layer["density"]["nodes"] == pytest.approx(values.tolist(), abs=1e-5)
    assert covers(layer["trace"], float(values.sum()))
    assert layer["effective_rank"]["value"] == pytest.approx(float(values.sum() ** 2 / values.square().sum()), rel=1e-4)
    return True


def test_every_option_has_a_line_here() -> None:
    assert set(OPTIONS) | ELSEWHERE == {field.name for field in dataclasses.fields(HessianSettings)}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_does_what_it_says(
    name: str, sharpcli: Run, several: Callable[..., Any], runs: Path, net: Net, data_file: Path, tmp_path: Path
) -> None:
    places = {"plot": tmp_path / "p.png", "vectors": tmp_path / "v.safetensors", "state": tmp_path / "s", "data": data_file}
    line, holds = OPTIONS[name]
    words = [word.format(**places) for word in line.split()]
    if "--plot" in words:
        assert sharpcli("hessian", runs / "sgd", *words).exit_code == 0  # Says where, on stderr.
        assert places["plot"].stat().st_size > 1000
        words = words[: words.index("--plot")]
    results = several(runs / "sgd", *words)
    assert all(result["products"] == sum(result["products_by_use"].values()) for result in results)
    assert holds(results if name == "along_run" else results[0], net)
    for written in places.values():
        assert str(written) not in line.format(**places) or written.exists()


def test_a_tolerance_above_a_hundredth_is_told_to_count_as_a_hundredth(sharpcli: Run, final: Path) -> None:
    assert "--tol 0.5 counts as 0.01" in sharpcli("hessian", final, "--topk", 1, "--tol", 0.5).stderr


def test_the_json_holds_all_that_was_promised(ask: Callable[..., dict[str, Any]], final: Path, net: Net) -> None:
    result = ask(final, "--topk", 3, "--bottomk", 1)
    for one in result["eigenvalues"]:
        names = {
            "index",
            "value",
            "residual",
            "interval",
            "verdict",
            "verified",
            "index_interval",
            "index_confirmed",
            "index_range",
        }
        assert set(one) == names
        assert one["interval"][0] < one["value"] < one["interval"][1]
        half = one["residual"] + result["noise_floor"] + result["rounding"]
        assert one["interval"] == pytest.approx([one["value"] - half, one["value"] + half], rel=1e-12)
        assert one["verdict"] == "certified"
        assert one["index_confirmed"]
        exact = down(net.hessian())[one["index"] - (one["index"] > 0)]
        assert one["interval"][0] <= exact <= one["interval"][1]
        assert one["index_interval"][0] <= exact <= one["index_interval"][1]
    assert result["index_probability"] == 0.99
    assert result["ceiling"]["probability"] == result["floor"]["probability"] == 0.99
    assert result["ceiling"]["value"] >= values(result)[0] >= values(result)[-1] >= result["floor"]["value"]
    assert result["lambda_max"] == values(result)[0]
    assert 0 < result["noise_floor"] < 1e-5
    assert result["data_bar"]["groups"] == 40
    assert result["data_bar"]["standard_error"] > 0
    assert result["data_bar"]["bracket"] is result["data_bar"]["held_out"] is None
    assert result["products"] == sum(result["products_by_use"].values())
    assert result["products_by_use"]["verification"] == 2
    assert result["seconds"] > 0
    conditions = {"engine", "dtype", "split", "num_samples", "batch_norm", "num_parameters", "loss_function"}
    assert conditions <= set(result["conditions"])
    assert result["conditions"]["engine"].startswith("double backward")
    assert result["residual_history"][-1][1] <= 1e-3


def test_same_seed_same_document_other_seed_within_the_interval(sharpcli: Run, final: Path) -> None:
    """R14, with everything that is random."""
    words = ["hessian", final, "--topk", 3, "--trace", "--density", "--per-layer", "--samples", 40, "--json"]
    first, again = (json.loads(sharpcli(*words).stdout) for _ in range(2))
    assert without(first, "seconds", "provenance") == without(again, "seconds", "provenance")
    whole = ["hessian", final, "--topk", 3, "--json"]
    one, other = (json.loads(sharpcli(*whole, "--seed", seed).stdout)["result"] for seed in (0, 1))
    assert values(one) != values(other)
    for mine, theirs in zip(one["eigenvalues"], other["eigenvalues"], strict=True):
        assert mine["interval"][0] <= theirs["value"] <= mine["interval"][1]


@pytest.mark.parametrize("operator", ["hessian", "ggn", "fisher", "empirical-fisher"])
def test_operators(operator: str, ask: Callable[..., dict[str, Any]], final: Path, net: Net) -> None:
    result = ask(final, "--operator", operator, "--topk", 3, "--bottomk", 2)
    exact = {"hessian": net.hessian, "ggn": net.ggn, "fisher": net.ggn, "empirical-fisher": net.empirical_fisher}[operator]()
    assert near(result, [*down(exact)[:3], *down(exact)[-2:]])
    assert result["operator"] == operator
    if operator != "hessian":
        assert min(one["interval"][1] for one in result["eigenvalues"]) >= 0
        assert result["stability_threshold"] is None
    else:
        assert values(result)[-1] < -0.1
        assert result["stability_threshold"] > 0


def test_eigenvectors_in_a_file(ask: Callable[..., dict[str, Any]], final: Path, net: Net, tmp_path: Path) -> None:
    place = tmp_path / "new" / "v.safetensors"
    result = ask(final, "--topk", 3, "--bottomk", 1, "--vectors", place)
    found = load_file(place)
    assert found["indices"].tolist() == [1, 2, 3, -1]
    assert found["eigenvalues"].tolist() == values(result)
    with safe_open(place, "pt") as file:
        assert file.metadata()["order"].split("\n") == list(NAMES)
    for vector, one in zip(found["eigenvectors"].double(), result["eigenvalues"], strict=True):
        assert float(vector.norm()) == pytest.approx(1, abs=1e-6)
        allowed = one["residual"] + result["noise_floor"] + result["rounding"]
        assert float((net.hessian() @ vector - one["value"] * vector).norm()) <= allowed
        pieces = [found[f"{one['index']}/{name}"] for name in NAMES]
        assert [tuple(piece.shape) for piece in pieces] == [SHAPES[name] for name in NAMES]
        assert torch.equal(torch.cat([piece.flatten() for piece in pieces]).double(), vector)


def test_the_file_of_eigenvectors_has_the_same_bytes_each_time(sharpcli: Run, final: Path, tmp_path: Path) -> None:
    places = [tmp_path / f"{number}.safetensors" for number in range(5)]
    for place in places:
        assert sharpcli("hessian", final, "--topk", 1, "--samples", 20, "--vectors", place).exit_code == 0
    assert len({place.read_bytes() for place in places}) == 1


def test_it_is_said_where_eigenvectors_were_written(sharpcli: Run, final: Path, tmp_path: Path) -> None:
    place = tmp_path / "v.safetensors"
    assert f"Eigenvectors written to {place}\n" in sharpcli("hessian", final, "--vectors", place).stdout
    assert "written" not in sharpcli("hessian", final).stdout


def test_without_eigenvalues_there_is_trace_and_density(sharpcli: Run, ask: Callable[..., Any], final: Path, net: Net) -> None:
    result = ask(final, "--topk", 0, "--trace", "--above", 0.5)
    assert result["eigenvalues"] == []
    assert result["lambda_max"] is result["ceiling"] is result["data_bar"] is None
    assert covers(result["moments"]["trace"], float(net.hessian().trace()))
    assert result["density"]["counts"][0]["threshold"] == 0.5
    assert set(result["products_by_use"]) == {"trace", "density"}
    (only,) = values(ask(final, "--topk", 0, "--bottomk", 1))
    assert only == pytest.approx(down(net.hessian())[-1], rel=1e-4)
    assert "trace" in sharpcli("hessian", final, "--topk", 0, "--trace").stdout


@pytest.mark.parametrize("bn", ["eval", "recompute", "batch"])
def test_batch_norm_policies(
    bn: str, ask: Callable[..., dict[str, Any]], normed: list[object], arrays: dict[str, np.ndarray]
) -> None:
    """The loss is that of the policy, written out."""
    result = ask(*normed, "--bn", bn, *(["--bn-block", 25] if bn == "batch" else []), "--topk", 2)
    state = torch.load(Path(str(normed[0])) / "final.pt", weights_only=True)["state_dict"]
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=None), nn.Tanh(), nn.Linear(4, 3)).double()
    model.load_state_dict(state)
    inputs, targets = torch.from_numpy(arrays["x_train"]).double(), torch.from_numpy(arrays["y_train"])
    if bn == "batch":  # The blocks are drawn once, with the seed.
        drawn = torch.randperm(60, generator=generator(0, 8))
        inputs, targets = inputs[drawn], targets[drawn]
    if bn == "recompute":
        model[1].reset_running_stats()
        model(inputs)
    model.train(bn == "batch")
    outputs = torch.cat([model(part) for part in inputs.split(25 if bn == "batch" else 60)])
    assert result["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, targets).detach()), rel=1e-5)
    assert result["conditions"]["batch_norm"].startswith(bn)
    assert result["converged"]
    stored = ask(*normed, "--topk", 2)
    assert (values(result) == pytest.approx(values(stored), rel=1e-3)) == (bn == "eval")


@pytest.mark.parametrize("bn", ["recompute", "batch"])
def test_one_sample_left_out_has_no_variance_to_normalise_with(bn: str, several: Run, normed: list[object]) -> None:
    (result,) = several(*normed, "--bn", bn, "--bn-block", 16, "--samples", 59, "--topk", 1)
    assert result["converged"]


def test_one_sample_left_out_has_no_standard_error(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    bar = ask(final, "--samples", 59, "--topk", 1)["data_bar"]
    assert bar["held_out_standard_error"] != 0


def test_both_splits_side_by_side(sharpcli: Run, several: Run, ask: Callable[..., Any], final: Path, net: Net) -> None:
    train, test = several(final, "--split", "both", "--topk", 2)
    assert [one["conditions"]["split"] for one in (train, test)] == ["train", "test"]
    assert [one["conditions"]["num_samples"] for one in (train, test)] == [60, 30]
    assert near(train, down(net.hessian())[:2])
    assert values(test) == values(ask(final, "--split", "test", "--topk", 2))
    assert "Side by side" in sharpcli("hessian", final, "--split", "both", "--topk", 1).stdout


@pytest.mark.slow
def test_along_a_run_each_search_starts_from_the_one_before(several: Run, ask: Callable[..., Any], runs: Path) -> None:
    along = several(runs / "sgd", "--along-run", "--topk", 2)
    assert [one["checkpoint"]["step"] for one in along] == [0, 2, 4, 5]
    alone = [ask(one["checkpoint"]["path"], "--topk", 2) for one in along]
    for warm, cold in zip(along, alone, strict=True):
        assert warm["converged"]
        assert values(warm) == pytest.approx(values(cold), rel=1e-3)
    spent, cold_spent = (sum(one["products_by_use"]["lanczos"] for one in some) for some in (along, alone))
    assert spent <= cold_spent  # Where all 39 dimensions are nearly exhausted there is little to save.
    splits = several(runs / "sgd", "--along-run", "--split", "both", "--topk", 1)
    assert [(one["checkpoint"]["step"], one["conditions"]["split"]) for one in splits] == [
        (step, split) for step in (0, 2, 4, 5) for split in ("train", "test")
    ]


LARGE = ["--model", "mlp", "--model-arg", "hidden=64"]  # 579 parameters
LONG = ["--topk", 30, "--max-hvp", 60]  # Nothing is concluded before 30 products, and nothing has converged after 60.


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, sharpcli: Run, data_file: Path) -> Path:
    out = tmp_path_factory.mktemp("large")
    assert sharpcli("train", *LARGE, "--data", f"npz:{data_file}", "--steps", 3, "--out", out).exit_code == 0
    return out / "sgd"


def kept_products(state: Path) -> int:
    return int(torch.load(state / "search.pt", weights_only=True)["frame"]["products"])


def test_an_interrupted_search_is_gone_on_with(
    ask: Callable[..., dict[str, Any]], machine: Machine, large: Path, tmp_path: Path
) -> None:
    """Killed by Ctrl-C in a process of its own; what is gone on with ends where an undisturbed one ends, bit for bit."""
    state = tmp_path / "state"

    def has_begun() -> bool:
        return (state / "search.pt").exists() and kept_products(state) >= 5

    answer = machine.stopped(has_begun, "hessian", large, *LONG, "--state", state, "--json")
    assert (answer.exit_code, answer.stdout) == (130, ""), answer.stderr
    lines = without_progress(answer.stderr).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["error:", "hint:"]
    assert str(state) in lines[1]
    kept = kept_products(state)
    assert 5 <= kept < 60
    gone_on = ask(large, *LONG, "--state", state)
    whole = ask(large, *LONG, "--state", tmp_path / "other")
    assert values(gone_on) == values(whole)
    assert gone_on["products_by_use"] == whole["products_by_use"]
    again = ask(large, *LONG, "--state", state)
    assert values(again) == values(whole)
    assert again["products_by_use"] == whole["products_by_use"]


def test_a_budget_spent_with_state_is_not_lost(ask: Callable[..., dict[str, Any]], final: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    short = ask(final, "--topk", 3, "--max-hvp", 8, "--state", state)
    assert {one["verdict"] for one in short["eigenvalues"]} == {"budget-limited"}
    rest = ask(final, "--topk", 3, "--state", state)
    assert rest["converged"]
    assert values(rest) == values(ask(final, "--topk", 3))
    assert rest["products"] == ask(final, "--topk", 3)["products"]


@pytest.mark.parametrize("topk", [3, 4])
def test_the_time_of_an_earlier_part_of_a_search_counts(
    topk: int, ask: Callable[..., dict[str, Any]], final: Path, tmp_path: Path
) -> None:
    """Also where other eigenvalues are wanted now, since their products are counted, too."""
    state = tmp_path / "state"
    assert ask(final, "--topk", 3, "--max-hvp", 8, "--state", state)["seconds"] < 5000
    change_state(state / "search.pt", lambda search: search["state"].update(seconds=5000.0))
    assert ask(final, "--topk", topk, "--state", state)["seconds"] > 5000


def test_a_state_with_more_products_than_are_allowed_now(sharpcli: Run, final: Path, tmp_path: Path) -> None:
    """There is nothing wrong with memory there."""
    words = ["hessian", final, "--topk", 3, "--state", tmp_path / "state"]
    assert sharpcli(*words).exit_code == 0
    answer = sharpcli(*words, "--max-hvp", 5)
    assert answer.exit_code in (0, 2)
    assert "--memory" not in answer.stderr


def test_strict_tells_by_the_exit_code_after_all_is_printed(sharpcli: Run, final: Path) -> None:
    words = ["hessian", final, "--topk", 3, "--max-hvp", 5, "--json"]
    plain, strict = sharpcli(*words), sharpcli(*words, "--strict")
    assert (plain.exit_code, strict.exit_code) == (0, 5)
    assert without(json.loads(strict.stdout), "seconds", "provenance") == without(
        json.loads(plain.stdout), "seconds", "provenance"
    )
    assert [line.partition(" ")[0] for line in strict.stderr.splitlines()] == ["error:", "hint:"]
    assert sharpcli("hessian", final, "--topk", 3, "--strict").exit_code == 0


@pytest.fixture
def foreign(code: Path, data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Plain weights of the models in `CODE`."""
    folder = tmp_path_factory.mktemp("foreign")
    torch.save({f"{name}.{kind}": tensor for name in ("first", "last") for kind, tensor in layer(name)}, folder / "dropping.pt")
    torch.save({"weight": torch.ones(6)}, folder / "folding.pt")
    torch.save({"weight": torch.ones(3, 1)}, folder / "small.pt")
    return {"dir": folder, "code": code, "data": data_file}


def layer(name: str) -> list[tuple[str, Tensor]]:
    made = nn.Linear(5, 4) if name == "first" else nn.Linear(4, 3)
    return [("weight", made.weight.detach()), ("bias", made.bias.detach())]


def test_the_largest_in_magnitude_is_not_the_largest(ask: Callable[..., Any], foreign: dict[str, Path], tmp_path: Path) -> None:
    """With LM the first value can be negative: then it is not λmax, and it is not compared with 2/lr as if it were."""
    inputs, classes = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32), np.array([0] * 18 + [1, 2])
    sets = {f"x_{part}": inputs for part in ("train", "test")} | {f"y_{part}": classes for part in ("train", "test")}
    np.savez(tmp_path / "zeros.npz", **sets)
    torch.save({"weight": 0.1 * torch.ones(6)}, tmp_path / "fold.pt")
    words = [tmp_path / "fold.pt", "--model", f"{foreign['code']}:folding", "--data", f"npz:{tmp_path / 'zeros.npz'}"]
    result = ask(*words, "--which", "LM", "--topk", 1)
    assert values(result)[0] < 0
    largest = ask(*words, "--topk", 1)["lambda_max"]
    assert result["lambda_max"] is None or result["lambda_max"] == pytest.approx(largest, rel=1e-3)


@pytest.mark.slow
def test_the_bracket_of_the_smallest_eigenvalue_is_turned_over(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    """λmin of a part is on average *below* that of the whole, so the bracket must reach as far below the value as it
    would reach above a largest one: two standard errors, times √(1 - share).
    """
    for seed in range(5):
        result = ask(final, "--which", "SA", "--topk", 1, "--samples", 30, "--seed", seed)
        bar, value = result["data_bar"], values(result)[0]
        margin = 2 * 0.5**0.5 * bar["standard_error"]
        low, high = bar["bracket"]
        assert low <= min(value, bar["held_out"]) - margin * (1 - 1e-6)
        assert high >= max(0.5 * (value + bar["held_out"]), bar["held_out"])
        bottom = ask(final, "--topk", 0, "--bottomk", 1, "--samples", 30, "--seed", seed)
        assert bottom["data_bar"]["bracket"] == pytest.approx(bar["bracket"], rel=1e-3)
        assert bottom["lambda_max"] is None


# Exit code, command line after `hessian`, and a word that the message must hold.
BAD = [
    (2, "{run} --memory 1k", "39"),
    (2, "{run} --memory lots", "lots"),
    (2, "{run} --memory 0", "'0'"),
    (2, "{run} --memory -1GiB", "-1GiB"),
    (2, "{run} --memory 2GiBs", "2GiBs"),
    pytest.param(2, "{run} --memory " + "9" * 400, "--memory"),
    (2, "{run} --params 7.*", "'7.*'"),
    (2, "{run} --params 3.* --params nothing", "nothing"),
    (2, "{run} --topk=-1", "--topk"),
    (2, "{run} --topk 0 --per-layer", "--topk"),
    (2, "{run} --topk 0 --trace --vectors v.safetensors", "--topk"),
    (2, "{run} --topk 0 --trace --state s", "--topk"),
    (2, "{run} --topk 0 --ggn-split --density", "--topk"),
    (2, "{run} --bottomk 40", "39"),
    (2, "{run} --bottomk=-1", "--bottomk"),
    (2, "{run} --which BE", "--which"),
    (2, "{run} --which SA --bottomk 1", "--bottomk"),
    (2, "{run} --certify none", "--certify"),
    (2, "{run} --operator hesian", "'hessian'"),
    (2, "{run} --operator fisher --loss hinge", "hinge"),
    (3, "{run} --operator preconditioned", "SGD"),
    (3, "{run}/init.pt --operator preconditioned", "second moments"),
    (2, "{run} --operator preconditioned --ggn-split", "--ggn-split"),
    (2, "{run} --bn train", "--bn"),
    (2, "{run} --bn batch --bn-block 1", "--bn-block"),
    (2, "{run} --bn batch --chunk-size 20", "--chunk-size"),
    (2, "{run} --max-minutes 0", "--max-minutes"),
    (2, "{run} --max-minutes nan", "--max-minutes"),
    (2, "{run} --max-hvp 0", "--max-hvp"),
    (2, "{run} --topk 3 --bottomk 3 --max-hvp 5", "--max-hvp"),
    (2, "{run} --trace --trace-tol 0", "--trace-tol"),
    (2, "{run} --density --probes 1", "--probes"),
    (2, "{run} --density --density-steps 1", "--density-steps"),
    (2, "{run} --above high", "high"),
    pytest.param(2, "{run} --above nan", "not finite"),
    pytest.param(2, "{run} --above inf", "not finite"),
    (2, "{run} {run} --vectors v.safetensors", "--vectors"),
    (2, "{run} --along-run --vectors v.safetensors", "--vectors"),
    pytest.param(2, "{run} --ggn-split --operator empirical-fisher", "--ggn-split"),
    (3, "{bare} --along-run", "--save-every"),
    (3, "{run}/final.pt --along-run", "--save-every"),
    (3, "{run} --state {data}", "{data}"),
    (3, "{run} --state {data}/state", "{data}"),
    (3, "{run} --vectors {data}/v.safetensors", "{data}"),
    (3, "{dir}/dropping.pt --model {code}:dropping --data npz:{data}", "not deterministic"),
    (3, "{dir}/dropping.pt --model {code}:dropping --data npz:{data} --topk 0 --trace", "not deterministic"),
    (3, "{dir}/dropping.pt --model {code}:dropping --data npz:{data} --operator ggn", "not deterministic"),
]


@pytest.mark.parametrize(("exit_code", "line", "word"), BAD, ids=lambda part: str(part)[:60])
def test_one_sentence_one_hint_and_nothing_written(
    exit_code: int,
    line: str,
    word: str,
    sharpcli: Run,
    runs: Path,
    large: Path,
    foreign: dict[str, Path],
    contents: Callable[[Path], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {**foreign, "run": runs / "sgd", "bare": large}
    before = contents(runs)
    answer = sharpcli("hessian", *(part.format(**places) for part in line.split()))
    assert answer.exit_code == exit_code, answer.stderr
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert [text.partition(" ")[0] for text in lines] == ["error:", "hint:"], answer.stderr
    assert word.format(**places) in answer.stderr
    assert "MiB" not in lines[1] or " 0MiB" not in lines[1]
    assert contents(tmp_path) == {}
    assert contents(runs) == before


def test_the_memory_that_is_recommended_is_enough(sharpcli: Run, final: Path) -> None:
    hint = sharpcli("hessian", final, "--memory", "1k").stderr.splitlines()[1]
    size = hint.partition("--memory ")[2].partition(")")[0]
    answer = sharpcli("hessian", final, "--memory", size)
    assert answer.exit_code == 0, answer.stderr


def test_a_default_that_is_more_than_the_model_has_is_nobodys_mistake(
    ask: Callable[..., dict[str, Any]], foreign: dict[str, Path], tmp_path: Path
) -> None:
    """As for the default subspaces of `sharpness`: nobody asked for five eigenvalues of three."""
    inputs = np.random.default_rng(0).normal(size=(12, 1)).astype(np.float32)
    arrays = {f"x_{part}": inputs for part in ("train", "test")} | {
        f"y_{part}": np.arange(12) % 3 for part in ("train", "test")
    }
    np.savez(tmp_path / "one.npz", **arrays)
    words = [foreign["dir"] / "small.pt", "--model", f"{foreign['code']}:small", "--data", f"npz:{tmp_path / 'one.npz'}"]
    assert len(ask(*words)["eigenvalues"]) == 3


@pytest.mark.parametrize("what", ["--trace", "--density"])
def test_a_plot_without_eigenvalues(what: str, sharpcli: Run, final: Path, tmp_path: Path) -> None:
    """Either there is something to draw, or that is said in one sentence before the work."""
    answer = sharpcli("hessian", final, "--topk", 0, what, "--plot", tmp_path / "p.png")
    assert answer.exit_code in (0, 2), answer.stderr
    assert (tmp_path / "p.png").exists() == (answer.exit_code == 0)
