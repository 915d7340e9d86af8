"""What every definition of sharpness owes its reader; a new file in measures/ is tested here without a new line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sharpcli
from sharpcli import checkpoints, plugins
from sharpcli.analyses.sharpness.measuring import requested_measures
from sharpcli.errors import SettingsError
from tests.device import DEVICE
from tests.lanes import crossed, thinned
from tests.nets import objective

NAMES = plugins.names("measures")
VARIANTS = [(name, dict(variant)) for name in NAMES for variant in plugins.load("measures", name).VARIANTS]
SIZES = ("epsilon", "rho", "sigma", "radius")
# Chains of the local learning coefficient that mix in a few steps, where the pull is stronger than the curvature.
CHAINS = {"chains": 2, "steps": 240, "burn_in": 10, "gamma": 300.0, "step_size": 4e-3, "batch": 20}
FEW = {"samples": 3, "steps": 3, "restarts": 1, "draws": 1, "batches": 2, "m": 20, "iterations": 2, "groups": 5, "subspace": 5}


def short(name: str, variant: dict[str, Any]) -> dict[str, Any]:
    """Return options that make a measure quick, its variant kept."""
    known = inspect.signature(plugins.load("measures", name).read).parameters
    few = {key: value for key, value in FEW.items() if key in known and (key != "subspace" or key in variant)}
    return {**variant, **few, **(CHAINS if "chains" in known else {})}


def named(case: Any) -> str:
    return case if isinstance(case, str) else " ".join(f"{key}={value}" for key, value in case.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_says_what_it_is(name: str):
    plug_in = plugins.load("measures", name)
    for word in ("DEFINITION", "MISLEADS", "COST"):
        assert getattr(plug_in, word)
    assert plug_in.VARIANTS[0] == {}
    parameters = list(inspect.signature(plug_in.read).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == ["objective", "theta", "seed"]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters[2:])
    for options in plug_in.VARIANTS:
        text = ",".join(f"{key}={str(value).lower()}" for key, value in options.items())
        assert requested_measures([f"{name}:{text}"])[0].options == options


@pytest.mark.parametrize("name", NAMES)
def test_a_file_read_without_running_it_says_the_same(name: str):
    """`sharpness --list` reads files, since loading torch takes longer than a second."""
    plug_in, read = plugins.load("measures", name), plugins.described("measures", name, "read")
    for word in ("DEFINITION", "INVARIANT", "MISLEADS", "COST", "VARIANTS"):
        assert read.constants[word] == getattr(plug_in, word)
    parameters = list(inspect.signature(plug_in.read).parameters.values())
    assert read.defaults == {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    assert list(read.defaults) == [one.name for one in parameters[2:]]
    assert read.docstring == inspect.getdoc(plug_in)


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=named)
def test_same_seed_same_answer_and_weights_untouched(name: str, variant: dict[str, Any]):
    problem = objective("conv")
    theta = problem.parameters()
    before, model = theta.clone(), {key: value.clone() for key, value in problem.model.state_dict().items()}
    first, again = (plugins.load("measures", name).read(problem, theta, seed=3, **short(name, variant)) for _ in range(2))
    assert first.status == "ok"
    exact = {"rel": 0 if DEVICE.type == "cpu" else 1e-9, "abs": 0}  # Sums on a GPU have no order.
    assert first.value == pytest.approx(again.value, **exact)
    assert (first.standard_error or 0) == pytest.approx(again.standard_error or 0, **exact)
    assert first.measure == name
    assert first.unit
    assert first.passes > 0
    assert first.options.items() >= {key: value for key, value in variant.items() if key != "subspace"}.items()
    assert torch.equal(theta, before)
    assert all(torch.equal(model[key], value) for key, value in problem.model.state_dict().items())


@pytest.mark.parametrize(("name", "variant"), thinned(VARIANTS, 3), ids=named)
def test_the_chunk_size_does_not_matter(name: str, variant: dict[str, Any]):
    found = []
    for chunk in (7, 101):
        problem = objective("conv", chunk_size=chunk)
        found.append(plugins.load("measures", name).read(problem, problem.parameters(), **short(name, variant)).value)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


SIZED = [
    (name, variant, key)
    for name, variant in VARIANTS
    for key in SIZES
    if key in inspect.signature(plugins.load("measures", name).read).parameters
]


@pytest.mark.parametrize(("name", "variant", "size"), SIZED, ids=named)
def test_a_size_of_zero_gives_zero_and_a_bad_one_is_refused(name: str, variant: dict[str, Any], size: str):
    problem = objective("conv")
    read, theta = plugins.load("measures", name).read, problem.parameters()
    options = {**short(name, variant), size: 0.0}
    assert read(problem, theta, **options).value == 0
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=size):
            read(problem, theta, **{**options, size: bad})


@pytest.mark.parametrize(("name", "variant", "size"), thinned(SIZED, 2), ids=named)
def test_a_larger_size_gives_a_larger_change(name: str, variant: dict[str, Any], size: str):
    problem = objective("conv")
    read, theta = plugins.load("measures", name).read, problem.parameters()
    options = short(name, variant) | ({"steps": 10} if "steps" in short(name, variant) else {})
    small, large = (read(problem, theta, **{**options, size: value}) for value in (0.05, 0.2))
    assert 0 < abs(small.value) < abs(large.value)
    assert small.bound != "lower" or small.value > 0


HEADS = "transformed attention heads"
RESCALED = ("rescaled ReLU pairs", "rescaled layers before BatchNorm", "rescaled logits", HEADS)
NET = """from torch import nn
def net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
    )
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)
    def forward(self, inputs):
        rows = inputs[:, 0]
        return self.out((rows + self.mix(rows, rows, rows, need_weights=False)[0]).mean(1))
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train a net with both kinds of symmetry, and rescale it in each."""
    folder = tmp_path_factory.mktemp("rescaled")
    random = np.random.default_rng(0)
    classes = np.arange(90) % 3
    images = random.normal(size=(90, 1, 8, 8)).astype(np.float32)
    images[np.arange(90), 0, classes] += 1
    np.savez(folder / "d.npz", x_train=images[:60], y_train=classes[:60], x_test=images[60:], y_test=classes[60:])
    (folder / "net.py").write_text(NET)
    models = {kind: f"{folder / 'net.py'}:{'Attention' if kind == HEADS else 'net'}" for kind in RESCALED}
    runs = {}
    for kind in (RESCALED[0], HEADS):
        data, out = f"npz:{folder / 'd.npz'}", str(folder / kind)
        trained = sharpcli.train(model=models[kind], data=data, steps=60, batch_size=20, dtype="float64", out=out)
        runs[kind] = trained.rows[0].checkpoint
    how: dict[str, dict[str, Any]] = {
        RESCALED[0]: {"layer": "4", "into": "6"},
        RESCALED[1]: {"layer": "1", "into": "2"},
        RESCALED[2]: {"logits": True},
        HEADS: {"attention": True},
    }
    files = {}
    for kind, options in how.items():
        run, target = runs.get(kind, runs[RESCALED[0]]), str(folder / f"{kind}.pt")
        sharpcli.reparam(run, target, factor=4.0, model=models[kind], dtype="float64", **options)
        files[kind] = (run, target)
    return {"models": models, "files": files}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_not_rescaled_stays_as_it_is_in_the_file(versions: dict[str, Any], tmp_path: Path, dtype: torch.dtype):
    first = checkpoints.read(versions["files"][RESCALED[0]][0])
    state = {name: part.to(dtype) if part.is_floating_point() else part for name, part in first.state.items()}
    checkpoints.write(tmp_path / "a.pt", state, {**first.metadata, "final": {}})
    sharpcli.reparam(
        tmp_path / "a.pt", str(tmp_path / "b.pt"), factor=4.0, model=versions["models"][RESCALED[0]], layer="4", into="6"
    )
    found = checkpoints.read(tmp_path / "b.pt").state
    assert {name: part.dtype for name, part in found.items()} == {name: part.dtype for name, part in state.items()}
    assert [name for name in state if not torch.equal(found[name], state[name])] == ["4.weight", "4.bias", "6.weight"]


@pytest.mark.parametrize("kind", RESCALED)
def test_a_rescaled_checkpoint_is_the_same_function(versions: dict[str, Any], kind: str):
    rows = sharpcli.compare(versions["files"][kind], model=versions["models"][kind], metrics="hessian", dtype="float64").rows
    assert rows[0].test_accuracy == rows[1].test_accuracy
    if kind != "rescaled logits":
        assert rows[0].train_loss == pytest.approx(rows[1].train_loss, rel=1e-9)
        assert rows[0].test_loss == pytest.approx(rows[1].test_loss, rel=1e-9)
    assert abs(rows[0].lambda_max / rows[1].lambda_max - 1) > 0.01  # The Hessian is invariant under none of them.


@pytest.mark.parametrize(("case", "kind"), crossed(VARIANTS, RESCALED))
def test_what_is_said_to_be_invariant_stays_and_all_else_moves(
    versions: dict[str, Any], case: tuple[str, dict[str, Any]], kind: str
):
    name, variant = case
    fine = {"pac-bayes": {"tolerance": 1e-4}, "local-learning-coefficient": {"steps": 100, "burn_in": 50}}.get(name, {})
    text = ",".join(f"{key}={str(value).lower()}" for key, value in {**variant, **fine}.items())
    values = [
        sharpcli.sharpness(file, measure=f"{name}:{text}", model=versions["models"][kind], dtype="float64").readings[0].value
        for file in versions["files"][kind]
    ]
    claims = plugins.load("measures", name).INVARIANT
    holds = any(
        kind in what for when, what in claims.items() if not when or (when == "adaptive=true" and variant.get("adaptive"))
    )
    if holds:
        assert values[0] == pytest.approx(values[1], rel=1e-4)
    else:
        assert abs(values[0] / values[1] - 1) > 1e-3


def test_the_command_line_lists_and_refuses(sharpcli: Callable[..., Any], final: Path) -> None:
    listed = sharpcli("sharpness", "--list")
    assert listed.exit_code == 0
    for name in NAMES:
        assert f"\n{name}\n" in f"\n{listed.stdout}"
    for words, word in (
        (["--measure", "worst"], "worst-case"),
        (["--measure", "worst-case:rho=-1"], "rho"),
        (["--measure", "worst-case:radius=1"], "rho"),
        (["--measure", "worst-case:norm=1"], "norm"),
        (["--measure", "average-case:sigma"], "sigma"),
        (["--measure", "all:rho=1"], "all"),
        (["--measure", "worst-case:restarts=0"], "restarts"),
        (["--measure", "average-case:samples=0"], "samples"),
        (["--measure", "epsilon-sharpness:draws=0"], "draws"),
    ):
        answer = sharpcli("sharpness", final, *words)
        assert answer.exit_code == 2
        assert answer.stdout == ""
        assert word in answer.stderr
    assert sharpcli("sharpness").exit_code == 2


@pytest.mark.slow
def test_all_of_them_on_a_tiny_model(sharpcli: Callable[..., Any], final: Path) -> None:
    import json

    answer = sharpcli("sharpness", final, "--measure", "all", "--json")
    assert answer.exit_code == 0, answer.stderr
    rows = json.loads(answer.stdout)["result"]["readings"]
    assert {row["measure"] for row in rows} == set(NAMES)
    assert len({row["label"] for row in rows}) == len(rows)
    assert all(row["status"] == "ok" for row in rows)


def test_the_page_about_measures_is_what_the_measures_say() -> None:
    """Written by tools/write_measures.py; a change to a measure needs a new page."""
    import importlib.util

    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("write_measures", root / "tools" / "write_measures.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    assert (root / "docs" / "measures.md").read_text(encoding="utf-8") == module.page()
