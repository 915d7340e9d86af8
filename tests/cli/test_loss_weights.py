"""`--loss ce:weight=...`: the class weights of torch's cross-entropy, in every command, and in files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tests.lanes import slow

WEIGHT = torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)
LOSS = "ce:weight=0.2/3/1"


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def samples() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(60, 4, generator=random, dtype=torch.float64), torch.randint(3, (60,), generator=random)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    source = "import torch\nfrom torch import nn\n"
    source += "def net(): return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))\n"
    (folder / "net.py").write_text(source)
    inputs, targets = samples()
    np.savez(folder / "data.npz", x_train=inputs, y_train=targets, x_test=inputs[:9], y_test=targets[:9])
    state = {f"model.{name}": part for name, part in net().state_dict().items()}
    torch.save(state, folder / "plain.pt")
    torch.save({**state, "criterion.weight": WEIGHT.float()}, folder / "held.pt")
    return folder


def words(place: Path, name: str = "plain.pt") -> list[object]:
    model, data = f"{place / 'net.py'}:net", f"npz:{place / 'data.npz'}"
    return [place / name, "--model", model, "--data", data, "--dtype", "float64"]


def mean(theta: Tensor | None = None) -> Tensor:
    model, (inputs, targets) = net(), samples()
    if theta is None:
        return functional.cross_entropy(model(inputs), targets, weight=WEIGHT)
    names, shapes = zip(*((name, part.shape) for name, part in model.named_parameters()), strict=True)
    parts = theta.split([shape.numel() for shape in shapes])
    state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
    return functional.cross_entropy(functional_call(model, state, (inputs,)), targets, weight=WEIGHT)


def test_the_eigenvalues_are_those_of_torch(place: Path, sharpcli: Callable[..., Any]) -> None:
    theta = torch.cat([part.detach().flatten() for part in net().parameters()])
    wanted = torch.linalg.eigvalsh(torch.autograd.functional.hessian(mean, theta)).flip(0)[:3]
    for size in (60, 7):
        answer = sharpcli(
            "hessian", *words(place), "--loss", LOSS, "--topk", 3, "--tol", 1e-6, "--chunk-size", size, "--trace", "--json"
        )
        assert answer.exit_code == 0, answer.stderr
        result = json.loads(answer.stdout)["result"]
        assert result["loss"] == pytest.approx(float(mean().detach()), rel=1e-12)
        assert result["conditions"]["loss_function"] == "ce:weight=0.2/3.0/1.0"
        assert [row["value"] for row in result["eigenvalues"]] == pytest.approx(wanted.tolist(), rel=1e-6)
        assert {row["verdict"] for row in result["eigenvalues"]} == {"certified"}


def test_the_gauss_newton_matrix_has_weights_and_the_fisher_matrices_are_refused(
    place: Path, sharpcli: Callable[..., Any]
) -> None:
    model, (inputs, targets) = net(), samples()
    parameters = list(model.parameters())
    matrix = torch.zeros(())
    for one, target in zip(inputs, targets, strict=True):
        outputs = model(one[None])[0]
        slopes = [torch.autograd.grad(output, parameters, retain_graph=True) for output in outputs]
        jacobian = torch.stack([torch.cat([part.flatten() for part in slope]) for slope in slopes])
        chances = torch.softmax(outputs.detach(), 0)
        middle = torch.diag(chances) - torch.outer(chances, chances)
        matrix = matrix + WEIGHT[target] * jacobian.T @ middle @ jacobian
    matrix = matrix / float(WEIGHT[targets].sum())
    answer = sharpcli("hessian", *words(place), "--loss", LOSS, "--operator", "ggn", "--topk", 2, "--tol", 1e-6, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = [row["value"] for row in json.loads(answer.stdout)["result"]["eigenvalues"]]
    assert found == pytest.approx(torch.linalg.eigvalsh(matrix).flip(0)[:2].tolist(), rel=1e-6)
    for operator, why in (("fisher", "not of the form -log p"), ("empirical-fisher", "needs a plain mean")):
        refused = sharpcli("hessian", *words(place), "--loss", LOSS, "--operator", operator)
        assert refused.exit_code == 2
        assert why in refused.stderr
        assert "--operator" in refused.stderr.partition("hint")[2]


@pytest.mark.parametrize(
    "line", [slow("sharpness {} --measure all"), "compare {}", "interpolate {} {}", "surface {} --points 3"]
)
def test_every_command_takes_them(line: str, place: Path, sharpcli: Callable[..., Any]) -> None:
    path, *options = words(place)
    answer = sharpcli(*line.format(path, path).split(), *options, "--loss", LOSS, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert "ce:weight=0.2/3.0/1.0" in answer.stdout


def test_weights_in_the_file_are_asked_about_with_the_option_to_add(place: Path, sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli("hessian", *words(place, "held.pt"), "--topk", 1)
    assert answer.exit_code == 0, answer.stderr
    said = re.search(r"'criterion.weight'.*add --loss (\S+)\.\s", answer.stderr.replace("\n", " ").replace("  ", " "))
    assert said is not None, answer.stderr
    assert said[1] == LOSS
    for command in ("hessian", "inspect"):
        again = sharpcli(command, *words(place, "held.pt"), "--loss", said[1])
        assert again.exit_code == 0, again.stderr
        assert "add --loss" not in again.stderr
    other = sharpcli("hessian", *words(place, "held.pt"), "--loss", "ce:weight=1/3/1", "--topk", 1)
    assert "add --loss" in other.stderr


@pytest.mark.parametrize(
    ("loss", "code", "message"),
    [
        ("ce:weight=1/2", 2, "The data contain the class 2, but the loss has 2 class weights."),
        ("ce:weight=1/2/3/4", 3, "The model has 3 outputs, but the loss has 4 class weights."),
    ],
)
def test_another_number_of_weights_is_refused(
    loss: str, code: int, message: str, place: Path, sharpcli: Callable[..., Any]
) -> None:
    answer = sharpcli("hessian", *words(place), "--loss", loss)
    assert (answer.exit_code, answer.stdout) == (code, "")
    assert message in answer.stderr.replace("\n", " ")
    assert "ce:weight=1/4 for two classes" in answer.stderr.replace("\n", " ")


@pytest.mark.slow
def test_a_measure_that_needs_a_plain_mean_is_left_out_with_its_reason(place: Path, sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli("sharpness", *words(place), "--loss", LOSS, "--measure", "all")
    assert answer.exit_code == 0, answer.stderr
    said = " ".join(answer.stderr.split())
    assert "fisher-rao is left out: it needs a plain mean over loss terms, and the loss is ce:weight=0.2/3.0/1.0." in said
    assert "epsilon-sharpness:subspace=100 is left out: the model has only 43 parameters." in said


@pytest.mark.parametrize("measure", ["gradient-noise", "local-volume", "average-case", "worst-case", "gradient-norm"])
def test_a_common_factor_of_all_weights_changes_no_measure(measure: str, place: Path, sharpcli: Callable[..., Any]) -> None:
    """The mean is divided by the weights, so only their ratios matter."""
    values = []
    for loss in (LOSS, "ce:weight=2/30/10"):
        answer = sharpcli("sharpness", *words(place), "--loss", loss, "--measure", measure, "--json")
        assert answer.exit_code == 0, answer.stderr
        values.append([reading["value"] for reading in json.loads(answer.stdout)["result"]["readings"]])
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert None not in values[0]
