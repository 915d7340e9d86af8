"""Small public reports re-made, about data, outputs and losses: each folder beside this file is one, with its right values.

The right values are those of a dense Hessian in float64, by torch's own double differentiation and torch's own losses.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

HERE = Path(__file__).parent

Criterion = Callable[[Any, Tensor], Tensor]


def case(name: str) -> list[object]:
    place = HERE / name
    return [place / "ck.pt", "--model", f"{place / 'net.py'}:make", "--data", f"npz:{place / 'd.npz'}", "--dtype", "float64"]


def loaded(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return model and data as anybody would load them, without sharpcli."""
    place = HERE / name
    found = importlib.util.spec_from_file_location(f"case_{name}", place / "net.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    model: nn.Module = module.make().double()
    model.load_state_dict({key: part.double() for key, part in torch.load(place / "ck.pt", weights_only=True).items()})
    arrays = np.load(place / "d.npz")
    return model, torch.from_numpy(arrays["x_train"]).double(), torch.from_numpy(arrays["y_train"])


def dense(model: nn.Module, mean_loss: Callable[[Callable[[Tensor], Any]], Tensor]) -> tuple[float, Tensor, Tensor]:
    """Return the mean loss, its gradient and its Hessian in all weights, from torch alone."""
    names = [name for name, _ in model.named_parameters()]
    sizes = [part.shape for part in model.parameters()]
    theta = torch.cat([part.detach().flatten() for part in model.parameters()])

    def of(vector: Tensor) -> Tensor:
        pieces = torch.split(vector, [size.numel() for size in sizes])
        weights = {name: piece.view(size) for name, piece, size in zip(names, pieces, sizes, strict=True)}
        return mean_loss(lambda inputs: functional_call(model, weights, (inputs,)))

    hessian: Tensor = torch.autograd.functional.hessian(of, theta)
    gradient: Tensor = torch.autograd.functional.jacobian(of, theta)
    return float(of(theta)), gradient, hessian


def per_token(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy with classes along the last axis."""
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def bits(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets.double().view_as(outputs))


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    weight = torch.tensor(3.0, dtype=torch.float64)
    return functional.binary_cross_entropy_with_logits(outputs, targets.double().view_as(outputs), pos_weight=weight)


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs.reshape(len(targets), -1) - targets.double().reshape(len(targets), -1)).square().sum() / len(targets)


def of_labels(outputs: Tensor, targets: Tensor) -> Tensor:
    """Each label has its own weights."""
    weight, positive = (torch.tensor(row, dtype=torch.float64) for row in ([2.0, 0.5, 1], [3.0, 1, 0.2]))
    return functional.binary_cross_entropy_with_logits(outputs, targets.double(), weight=weight, pos_weight=positive)


def of_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    weight = torch.arange(1, outputs.shape[1] + 1, dtype=torch.float64)
    return functional.cross_entropy(outputs, targets, weight=weight)


RIGHT: list[tuple[str, list[str], Criterion, float | None]] = [
    ("seqsquare", ["--loss", "ce:class_axis=1"], functional.cross_entropy, 0.4195),
    ("seqsquare", ["--loss", "ce:class_axis=last"], per_token, 0.2580),
    (
        "seqsquare",
        ["--loss", "ce:class_axis=1,smoothing=0.2"],
        lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.2),
        None,
    ),
    (
        "seqsquare",
        ["--loss", "ce:class_axis=1,ignore_index=2"],
        lambda z, y: functional.cross_entropy(z, y, ignore_index=2),
        None,
    ),
    ("multilabel", ["--loss", "bce"], bits, None),
    ("multilabel", ["--loss", "bce:pos_weight=3"], weighted, None),
    ("multilabel", ["--loss", "bce:weight=2/0.5/1,pos_weight=3/1/0.2"], of_labels, None),
    ("seqsquare", ["--loss", "ce:class_axis=1,weight=1/2/3/4/5"], of_classes, None),
    ("multilabel", ["--loss", "mse"], half_squares, None),
    ("onelogit", ["--loss", "bce"], bits, None),
    ("onelogit", ["--loss", "bce:pos_weight=3"], weighted, None),
    ("dict", [], lambda answer, y: functional.cross_entropy(answer["logits"], y), None),
    ("dict", ["--output", "logits"], lambda answer, y: functional.cross_entropy(answer["logits"], y), None),
    ("tuple", ["--output", "0"], lambda answer, y: functional.cross_entropy(answer[0], y), None),
]


@pytest.mark.parametrize(
    ("name", "options", "criterion", "value"), RIGHT, ids=lambda part: str(part) if isinstance(part, str) else ""
)
def test_the_right_value(
    name: str, options: list[str], criterion: Criterion, value: float | None, sharpcli: Callable[..., Any]
) -> None:
    model, inputs, targets = loaded(name)
    loss, gradient, hessian = dense(model, lambda answer: criterion(answer(inputs), targets))
    largest = torch.linalg.eigvalsh(hessian).flip(0)[:3].tolist()
    if value is not None:
        assert largest[0] == pytest.approx(value, abs=6e-5)
    answer = sharpcli("hessian", *case(name), *options, "--topk", 3, "--tol", 1e-6, "--json")
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    assert result["loss"] == pytest.approx(loss, rel=1e-12)
    assert result["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-10)
    found = [row["value"] for row in result["eigenvalues"]]
    assert found == pytest.approx(largest, rel=1e-6)
    assert [row["verdict"] for row in result["eigenvalues"]] == ["certified"] * 3
    conditions = result["conditions"]
    asked = dict(zip(options[::2], options[1::2], strict=True))
    assert conditions["output"] == asked.get("--output", "logits" if name == "dict" else None)
    assert conditions["loss_function"].partition(":")[0] == asked.get("--loss", "ce").partition(":")[0]
    assert conditions["preprocessing"] == "numbers as stored"


@pytest.mark.parametrize(
    ("name", "weight"), [("multilabel", 1.0), ("multilabel", 3.0), ("onelogit", 1.0), ("onelogit", 0.25)], ids=str
)
@pytest.mark.parametrize("operator", ["ggn", "fisher", "empirical-fisher"])
def test_other_matrices_of_binary_cross_entropy(name: str, weight: float, operator: str, sharpcli: Callable[..., Any]) -> None:
    words = ["hessian", *case(name), "--loss", f"bce:pos_weight={weight}", "--operator", operator, "--topk", 2, "--tol", 1e-7]
    answer = sharpcli(*words, "--json")
    if operator == "fisher" and weight != 1:
        assert answer.exit_code == 2
        assert "is not of the form -log p" in answer.stderr
        assert "--operator ggn" in answer.stderr
        return
    assert answer.exit_code == 0, answer.stderr
    model, inputs, targets = loaded(name)
    parameters = list(model.parameters())
    logits, labels = model(inputs).flatten(), targets.double().flatten()
    chances = torch.sigmoid(logits.detach())
    slopes = [torch.autograd.grad(logit, parameters, retain_graph=True) for logit in logits]
    jacobian = torch.stack([torch.cat([part.flatten() for part in slope]) for slope in slopes])
    if operator == "empirical-fisher":
        middle = (chances * (1 - labels) - weight * labels * (1 - chances)).square()
    else:
        middle = chances * (1 - chances) * torch.where(labels == 1, weight, 1.0)
    matrix = jacobian.T @ (middle[:, None] * jacobian) / len(logits)
    found = [row["value"] for row in json.loads(answer.stdout)["result"]["eigenvalues"]]
    assert found == pytest.approx(torch.linalg.eigvalsh(matrix).flip(0)[:2].tolist(), rel=1e-6)


QUESTIONS = [
    ("seqsquare", "in two ways", "ce:class_axis=1"),
    ("multilabel", "cross-entropy needs classes", "--loss bce"),
    ("onelogit", "one output for each target", "--loss bce"),
    ("tuple", "returns several tensors", "--output 0 or --output 1"),
]


@pytest.mark.parametrize("line", ["hessian {}", "compare {}", "sharpness {}", "interpolate {} {}", "surface {}"])
@pytest.mark.parametrize(("name", "message", "hint"), QUESTIONS)
def test_every_command_asks(line: str, name: str, message: str, hint: str, sharpcli: Callable[..., Any]) -> None:
    place, *options = case(name)
    answer = sharpcli(*line.format(place, place).split(), *options)
    assert answer.exit_code in (2, 3)
    assert answer.stdout == ""
    assert message in answer.stderr
    assert hint in answer.stderr
    assert "--loss mse" not in answer.stderr
    assert len(answer.stderr.splitlines()) == 2


ANSWERED = {
    "seqsquare": ["--loss", "ce:class_axis=1"],
    "multilabel": ["--loss", "bce"],
    "onelogit": ["--loss", "bce"],
    "dict": [],
    "tuple": ["--output", "0"],
}


@pytest.mark.parametrize("name", ANSWERED)
def test_every_command_takes_the_answer(name: str, sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    """Loss and accuracy of a whole split are those of torch on every command that tells them."""
    place, *options = case(name)
    options = [*options, *ANSWERED[name]]
    model, inputs, targets = loaded(name)
    with torch.no_grad():
        answer = model(inputs)
    outputs = {"dict": lambda: answer["logits"], "tuple": lambda: answer[0]}.get(name, lambda: answer)()
    if "bce" in options:
        loss, right = bits(outputs, targets), (outputs > 0).flatten() == (targets > 0.5).flatten()
    else:
        loss, right = functional.cross_entropy(outputs, targets), outputs.argmax(1) == targets
    wanted = pytest.approx((float(loss), float(right.double().mean())), rel=1e-9)
    lines = {
        "hessian": [place, "--topk", 1],
        "sharpness": [place, "--subspace", 0, "--restarts", 1],
        "interpolate": [place, place, "--points", 2],
        "compare": [place, "--metrics", "hessian"],
    }
    for command, words in lines.items():
        given = sharpcli(command, *words, *options, "--json")
        assert given.exit_code == 0, given.stderr
        result = json.loads(given.stdout)["result"]
        if command == "compare":
            found = result["rows"][0]["train_loss"], result["rows"][0]["train_accuracy"]
        elif command == "interpolate":
            found = result["curves"][0]["loss"][0], result["curves"][0]["accuracy"][0]
        else:
            found = result["loss"], result["accuracy"]
        assert found == wanted, command
    checks = sharpcli("inspect", place, *options)
    assert checks.exit_code == 0, checks.stderr
    assert "can be analysed" in checks.stdout


@pytest.mark.parametrize("name", ANSWERED)
def test_training_takes_the_answer_and_remembers_it(name: str, sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    _, *options = case(name)
    words = [*options, *ANSWERED[name], "--mode", "sgd", "--steps", 3, "--batch-size", 8, "--track-sharpness", 2]
    done = sharpcli("train", *words, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    final = tmp_path / "run" / "sgd" / "final.pt"
    metadata = torch.load(final, weights_only=True)["metadata"]
    code = ["--model", f"{HERE / name / 'net.py'}:make", "--dtype", "float64"]
    answer = sharpcli("hessian", final, *code, "--topk", 1, "--json")
    assert answer.exit_code == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["result"]["loss"] == pytest.approx(metadata["final"]["train_loss"], rel=1e-9)
    assert [warning for warning in document["warnings"] if "differ" in warning] == []
    tracked = [json.loads(line) for line in (final.parent / "sharpness.jsonl").read_text().splitlines()]
    assert tracked[-1]["lambda_max"] > 0


@pytest.mark.parametrize("name", ["onelogit", "multilabel"])
def test_built_in_models_get_as_many_logits_as_there_are_labels(
    name: str, sharpcli: Callable[..., Any], tmp_path: Path
) -> None:
    words = [
        "--model",
        "mlp",
        "--model-arg",
        "hidden=4",
        "--data",
        f"npz:{HERE / name / 'd.npz'}",
        "--loss",
        "bce",
        "--steps",
        2,
    ]
    done = sharpcli("train", *words, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    shapes = [
        tuple(part.shape)
        for part in torch.load(tmp_path / "run" / "sgd" / "final.pt", weights_only=True)["state_dict"].values()
    ]
    assert shapes[-1] == ((1,) if name == "onelogit" else (3,))
    answer = sharpcli("hessian", tmp_path / "run" / "sgd", "--topk", 1, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["result"]["conditions"]["loss_function"] == "bce"


def test_smoothing_is_for_cross_entropy(sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    _, *options = case("onelogit")
    answer = sharpcli("train", *options, "--loss", "bce", "--label-smoothing", 0.1, "--steps", 1, "--out", tmp_path / "run")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "--label-smoothing needs --loss ce" in answer.stderr


def test_the_printed_conditions_say_what_was_assumed(sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli("hessian", *case("tuple"), "--output", 0, "--topk", 1)
    assert "inputs numbers as stored; outputs '0'" in answer.stdout
    answer = sharpcli("hessian", *case("seqsquare"), "--loss", "ce:class_axis=last", "--topk", 1)
    assert "(ce:class_axis=last)" in answer.stdout


def test_one_split_is_enough_for_what_needs_one(sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    place = HERE / "dict"
    arrays = np.load(place / "d.npz")
    np.savez(tmp_path / "train.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    words = [place / "ck.pt", "--model", f"{place / 'net.py'}:make", "--dtype", "float64"]
    half, whole = ([*words, "--data", f"npz:{path}"] for path in (tmp_path / "train.npz", place / "d.npz"))
    for line in (["hessian", "--topk", 1], ["sharpness", "--subspace", 0, "--restarts", 1]):
        found = []
        for data in (half, whole):
            answer = sharpcli(line[0], *data, *line[1:], "--json")
            assert answer.exit_code == 0, answer.stderr
            result = json.loads(answer.stdout)["result"]
            found.append((result["loss"], result["gradient_norm"], result.get("lambda_max")))
        assert found[0] == found[1]
    inspected = sharpcli("inspect", *half)
    assert inspected.exit_code == 0, inspected.stderr
    for line in (["compare"], ["hessian", "--split", "test"], ["hessian", "--split", "both"]):
        answer = sharpcli(line[0], *half, *line[1:])
        assert answer.exit_code == 3
        assert answer.stdout == ""
        assert "no test split" in answer.stderr


def test_data_in_double_precision_are_not_rounded(sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    place, random = HERE / "multilabel", np.random.default_rng(0)
    inputs, targets = random.normal(size=(40, 5)), random.normal(size=(40, 3))
    np.savez(tmp_path / "d.npz", x_train=inputs, y_train=targets)
    words = [place / "ck.pt", "--model", f"{place / 'net.py'}:make", "--data", f"npz:{tmp_path / 'd.npz'}", "--loss", "mse"]
    model, _, _ = loaded("multilabel")
    with torch.no_grad():
        wanted = float(half_squares(model(torch.from_numpy(inputs)), torch.from_numpy(targets)))
    losses = []
    for precision in ("float64", "float32"):
        answer = sharpcli("hessian", *words, "--dtype", precision, "--topk", 1, "--json")
        assert answer.exit_code == 0, answer.stderr
        losses.append(json.loads(answer.stdout)["result"]["loss"])
    assert losses[0] == pytest.approx(wanted, rel=1e-14)
    assert losses[1] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("deep", [False, True])
def test_a_net_without_standardisation_has_its_own_option(sharpcli: Callable[..., Any], tmp_path: Path, deep: bool) -> None:
    """The loss of a net that was trained on pixels from 0 to 1, on images of 8 and of 16 bits a pixel."""
    random, full = np.random.default_rng(0), 65535 if deep else 255
    pixels = random.integers(0, full + 1, (8, 5, 1)).astype(np.uint16 if deep else np.uint8)
    for part in ("train", "test"):
        for number, image in enumerate(pixels):
            folder = tmp_path / part / str(number % 3)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    place = HERE / "multilabel"
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))\n"
    )
    state = torch.load(place / "ck.pt", weights_only=True)
    torch.save({key.replace("a.", "1.").replace("b.", "3."): tensor for key, tensor in state.items()}, tmp_path / "ck.pt")
    words = [tmp_path / "ck.pt", "--model", f"{tmp_path / 'net.py'}:make", "--data", f"folder:{tmp_path}"]
    options = ["--data-arg", "grayscale=True", "--data-arg", "raw=True", "--dtype", "float64", "--topk", 1, "--json"]
    answer = sharpcli("hessian", *words, *options)
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    assert result["conditions"]["preprocessing"] == f"pixels / {full}"
    model, _, _ = loaded("multilabel")
    with torch.no_grad():
        outputs = model(torch.from_numpy(pixels[..., 0].astype(np.float64) / full))
    wanted = functional.cross_entropy(outputs, torch.arange(8) % 3)
    assert result["loss"] == pytest.approx(float(wanted), rel=1e-6)
