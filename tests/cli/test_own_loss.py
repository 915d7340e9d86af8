"""A loss by the user's code: as a function of outputs it gives the numbers of the built-in one; as more, those of autograd."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpcli.objective import Objective
from tests.lanes import thinned
from tests.nets import double_differentiation

Run = Callable[..., Any]
CODE = """
import torch
from torch import nn
from torch.nn import functional

def net(num_classes=3): return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, num_classes))
def normed(): return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
def field(): return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 5, generator=generator), torch.arange(40) % 3
def parts(): return {"train": points(), "test": points()}
def both(): return data(), data()
def points(): return torch.rand(30, 2, generator=torch.Generator().manual_seed(1))

def entropy(model, batch):
    x, y = batch
    return functional.cross_entropy(model(x), y, reduction="none")

def wave(model, batch):
    "The residual of u_tt = u_xx at points (x, t), and a value at t = 0."
    x = batch[0].requires_grad_()
    u = model(x)[:, 0]
    (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    second = [torch.autograd.grad(first[:, axis].sum(), x, create_graph=True)[0][:, axis] for axis in (0, 1)]
    start = model(torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], 1))[:, 0] - torch.sin(x[:, 0])
    return torch.stack([(second[1] - second[0]) ** 2, start**2], 1)

def summed(model, batch): return entropy(model, batch).sum(), len(batch[1])
def wave_sum(model, batch):
    terms = wave(model, batch)
    return terms.sum(), torch.tensor(terms.numel())
def uneven(model, batch): return entropy(model, batch).sum(), 7
def divided_sum(model, batch): return entropy(model, batch).mean(), len(batch[1])
def mean(model, batch): return entropy(model, batch).mean()
def divided(model, batch): return entropy(model, batch) / len(batch[1])
def text(model, batch): return "no number"
def broken(model, batch): raise ValueError("not today")
nothing = 3
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loss") / "mine.py"
    path.write_text(CODE)
    space: dict[str, Any] = {}
    exec(CODE, space)
    for name in ("net", "normed", "field"):
        torch.manual_seed(0)
        torch.save(space[name]().state_dict(), path.with_name(f"{name}.pt"))
    return path


def answered(sharpcli: Run, *words: object) -> dict[str, Any]:
    answer = sharpcli(*words, "--json")
    assert answer.exit_code == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)["result"]
    return result


def words_for(code: Path, loss: str) -> list[object]:
    return [code.with_name("net.pt"), "--model", f"{code}:net", "--data", f"{code}:data", "--loss", loss]


@pytest.mark.parametrize("engine", thinned(["auto", "double-backward", "linearize", "forward-over-reverse", "difference"]))
def test_cross_entropy_by_code_is_cross_entropy(sharpcli: Run, code: Path, engine: str):
    own, built_in = (
        answered(
            sharpcli, "hessian", *words_for(code, loss), "--topk", 2, "--dtype", "float64", "--tol", 1e-8, "--engine", engine
        )
        for loss in (f"{code}:entropy", "ce")
    )
    assert own["loss"] == pytest.approx(built_in["loss"], rel=1e-12)
    assert own["accuracy"] is None
    assert own["conditions"]["loss_function"] == f"{code}:entropy"
    found, wanted = ([row["value"] for row in result["eigenvalues"]] for result in (own, built_in))
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("options", [("--epsilon", 1e-3), ("--measure", "average-case"), ("--measure", "fisher-rao")])
def test_measures_take_it(sharpcli: Run, code: Path, options: tuple[object, ...]):
    own, built_in = (answered(sharpcli, "sharpness", *words_for(code, loss), *options) for loss in (f"{code}:entropy", "ce"))
    for one, other in zip(own["measurements"] + own["readings"], built_in["measurements"] + built_in["readings"], strict=True):
        for field in ("phi", "value"):
            if field in one:
                assert one[field] == pytest.approx(other[field], rel=1e-3)


def test_a_physics_informed_net(sharpcli: Run, code: Path):
    """Derivatives by the inputs inside of the loss, points without targets, and two terms a sample, against plain autograd."""
    words = ["--model", f"{code}:field", "--data", f"{code}:points", "--loss", f"{code}:wave"]
    options = ["--topk", 2, "--dtype", "float64", "--tol", 1e-8]
    result = answered(sharpcli, "hessian", code.with_name("field.pt"), *words, *options)
    space: dict[str, Any] = {}
    exec(CODE, space)
    model = space["field"]()
    model.load_state_dict(torch.load(code.with_name("field.pt")))
    model.double()
    points = space["points"]().double()
    theta = nn.utils.parameters_to_vector(model.parameters()).detach()

    def loss(vector: torch.Tensor) -> torch.Tensor:
        sizes = [part.numel() for part in model.parameters()]
        parts = {
            name: piece.view_as(part) for (name, part), piece in zip(model.named_parameters(), vector.split(sizes), strict=True)
        }
        called: torch.Tensor = space["wave"](
            lambda x: torch.func.functional_call(model, parts, (x,)), (points.clone(), None)
        ).mean()
        return called

    with double_differentiation():
        wanted = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta)).flip(0)[:2]
    assert result["loss"] == pytest.approx(float(loss(theta).detach()), rel=1e-10)
    assert [row["value"] for row in result["eigenvalues"]] == pytest.approx(wanted.tolist(), rel=1e-6)


def test_training_by_it_and_the_record(sharpcli: Run, code: Path, tmp_path: Path):
    words = ["--model", f"{code}:net", "--data", f"{code}:both", "--batch-size", 8, "--steps", 5, "--seed", 1]
    for name, loss in (("own", f"{code}:entropy"), ("built-in", "ce")):
        answer = sharpcli("train", *words, "--loss", loss, "--out", tmp_path / name)
        assert answer.exit_code == 0, answer.stderr
    own, built_in = (torch.load(tmp_path / name / "sgd" / "final.pt")["state_dict"] for name in ("own", "built-in"))
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, built_in[name])
    run, code_words = tmp_path / "own" / "sgd", ["--model", f"{code}:net", "--data", f"{code}:both"]
    answer = sharpcli("hessian", run, *code_words)
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert f"add --loss {code}:entropy" in answer.stderr.replace("\n", " ")
    assert sharpcli("hessian", run, *code_words, "--loss", f"{code}:entropy", "--topk", 1).exit_code == 0
    answer = sharpcli("train", "--resume", run, *code_words)
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert f"add --loss {code}:entropy" in answer.stderr.replace("\n", " ")
    assert sharpcli("train", "--resume", run, *code_words, "--loss", f"{code}:entropy").exit_code == 0


def test_training_divides_by_all_terms_of_a_sample(sharpcli: Run, code: Path, tmp_path: Path):
    """Two terms a sample: the update is that of their mean, against one step of gradient descent by plain torch."""
    words = ["--model", f"{code}:field", "--data", f"{code}:parts", "--loss", f"{code}:wave", "--mode", "fullbatch"]
    plain = shlex.split("--steps 1 --lr 0.1 --momentum 0 --weight-decay 0 --clip 0 --warmup 0 --schedule constant")
    answer = sharpcli("train", *words, *plain, "--out", tmp_path)
    assert answer.exit_code == 0, answer.stderr
    first, last = (torch.load(tmp_path / "fullbatch" / name)["state_dict"] for name in ("init.pt", "final.pt"))
    space: dict[str, Any] = {}
    exec(CODE, space)
    model = space["field"]()
    model.load_state_dict(first)
    space["wave"](model, (space["points"](), None)).mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(last[name], parameter.detach() - 0.1 * parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("model", "loss", "same"), [("net", "summed", "entropy"), ("field", "wave_sum", "wave")])
def test_a_sum_and_a_count_are_the_same_loss(sharpcli: Run, code: Path, model: str, loss: str, same: str):
    data = {"net": "data", "field": "points"}[model]
    words = [code.with_name(f"{model}.pt"), "--model", f"{code}:{model}", "--data", f"{code}:{data}", "--dtype", "float64"]
    for size in (100, 7):
        one, other = (
            answered(sharpcli, "hessian", *words, "--loss", f"{code}:{name}", "--topk", 2, "--tol", 1e-6, "--chunk-size", size)
            for name in (loss, same)
        )
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-12)
        values = [[row["value"] for row in result["eigenvalues"]] for result in (one, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_of_a_sum_the_loss_of_a_sample_is_not_known(sharpcli: Run, code: Path, tmp_path: Path):
    answer = sharpcli("hessian", *words_for(code, f"{code}:summed"), "--operator", "empirical-fisher")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "needs a plain mean over loss terms" in answer.stderr
    words = ["--model", f"{code}:net", "--data", f"{code}:both", "--steps", 2, "--batch-size", 8]
    noisy = sharpcli("train", *words, "--loss", f"{code}:summed", "--example-noise", 0.1, "--out", tmp_path / "noisy")
    assert noisy.exit_code == 2
    assert "--example-noise needs the loss of each sample" in " ".join(noisy.stderr.split())
    for name in ("summed", "entropy"):
        assert sharpcli("train", *words, "--loss", f"{code}:{name}", "--out", tmp_path / name).exit_code == 0
    states = [torch.load(tmp_path / name / "sgd" / "final.pt")["state_dict"] for name in ("summed", "entropy")]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])
    row = answered(
        sharpcli, "compare", *words_for(code, f"{code}:summed")[:-4], "--data", f"{code}:both", "--loss", f"{code}:summed"
    )
    assert "gap_standard_error" in json.dumps(row)


def test_the_next_commands_name_the_code_again(sharpcli: Run, code: Path, tmp_path: Path):
    words = ["--model", f"{code}:net", "--data", f"{code}:both", "--loss", f"{code}:entropy", "--steps", 1]
    commands = answered(sharpcli, "train", *words, "--out", tmp_path)["next_commands"]
    for command in commands:
        name, *options = shlex.split(command)[1:]
        if name == "inspect":
            assert sharpcli(name, *options).exit_code == 0
        assert name == "distance" or {"--model", "--data", "--loss"} <= set(options)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("mean", "returns the shape () for"),
        ("divided", "depends on the other samples"),
        ("divided_sum", "depends on the other samples"),
        ("uneven", "returns the count 7 for 4 samples"),
        ("text", "returns str"),
        ("broken", "ValueError: not today"),
        ("nothing", "is not the name of a function"),
        ("entrop", "is not the name of a function"),
    ],
)
def test_what_is_no_loss_is_said(sharpcli: Run, code: Path, loss: str, words: str):
    answer = sharpcli("hessian", *words_for(code, f"{code}:{loss}"))
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert words in " ".join(answer.stderr.split())


def test_blocks_of_batch_norm_are_no_fault_of_the_loss(sharpcli: Run, code: Path):
    words = [code.with_name("normed.pt"), "--model", f"{code}:normed", "--data", f"{code}:data"]
    options = ["--bn", "batch", "--bn-block", 10, "--topk", 1, "--seed", 3]
    own, built_in = (answered(sharpcli, "hessian", *words, "--loss", loss, *options) for loss in (f"{code}:entropy", "ce"))
    assert own["loss"] == pytest.approx(built_in["loss"], rel=1e-6)
    assert own["eigenvalues"][0]["value"] == pytest.approx(built_in["eigenvalues"][0]["value"], rel=1e-4)


@pytest.mark.parametrize("operator", ["ggn", "fisher"])
def test_matrices_of_outputs_are_refused(sharpcli: Run, code: Path, operator: str):
    answer = sharpcli("hessian", *words_for(code, f"{code}:entropy"), "--operator", operator)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "no closed form" in answer.stderr


def test_points_without_targets_are_for_a_loss_by_code_only(sharpcli: Run, code: Path):
    answer = sharpcli(
        "hessian", code.with_name("field.pt"), "--model", f"{code}:field", "--data", f"{code}:points", "--loss", "mse"
    )
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert "which cannot be read as data" in answer.stderr


def test_the_objective_counts_its_terms(code: Path):
    space: dict[str, Any] = {}
    exec(CODE, space)
    torch.manual_seed(0)
    made = Objective.of(space["field"](), space["points"](), torch.zeros(30, 1), loss=f"{code}:wave", chunk_size=7)
    assert (made.num_samples, made.total_weight) == (30, 60)
    assert made.among(torch.arange(4)).total_weight == 8
    whole = Objective.of(space["field"](), space["points"](), torch.zeros(30, 1), loss=f"{code}:wave", chunk_size=30)
    theta = made.parameters()
    assert made.loss(theta) == pytest.approx(whole.loss(theta), rel=1e-5)


def test_a_count_that_changes_from_batch_to_batch_is_refused(sharpcli: Run, tmp_path: Path):
    """The first samples have one term each, and later ones two."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net(): return nn.Linear(5, 3)\n"
        "def data(): return torch.randn(40, 5), torch.cat([torch.zeros(20), torch.ones(20)]).long()\n"
        "def loss(model, batch):\n"
        "    terms = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction='none')\n"
        "    return terms.sum(), len(terms) + int(batch[1].sum())\n"
    )
    torch.save(nn.Linear(5, 3).state_dict(), tmp_path / "net.pt")
    code = tmp_path / "net.py"
    words = [tmp_path / "net.pt", "--model", f"{code}:net", "--data", f"{code}:data", "--loss", f"{code}:loss"]
    answer = sharpcli("hessian", *words, "--chunk-size", 10, "--topk", 1)
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert "has 2 terms for a sample in one batch, and 1 in another" in " ".join(answer.stderr.split())
