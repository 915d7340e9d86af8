"""Files of which the weights were once read wrong or not at all, on the command line, against values computed elsewhere.

The eigenvalues are those of dense float64 Hessians by `torch.autograd.functional.hessian`, computed here; the distances are
sums over the tensors that the models train.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.lanes import slow

HERE = Path(__file__).parent
FORMATS = HERE / "formats"
SOUND = ["argns", "argns_legacy", "averagedmodel", "extra_state", "lightning_crit", "npscalar", "old_bn"]


def model_of(case: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location(f"case_{case}", HERE / case / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make()


def dense_eigenvalues(model: nn.Module, case: str) -> numpy.ndarray:
    """Return all eigenvalues of the Hessian of the mean cross-entropy, largest first, in float64."""
    model = model.double().eval()
    arrays = numpy.load(HERE / case / "d.npz")
    inputs, targets = torch.as_tensor(arrays["x_train"]), torch.as_tensor(arrays["y_train"]).long()
    inputs = inputs.double() if inputs.is_floating_point() else inputs.long()
    parameters = dict(model.named_parameters())
    sizes = [part.numel() for part in parameters.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        pieces = zip(parameters.items(), torch.split(theta, sizes), strict=True)
        named = {name: piece.view(part.shape) for (name, part), piece in pieces}
        return nn.functional.cross_entropy(functional_call(model, named, (inputs,)), targets)

    theta = torch.cat([part.detach().reshape(-1) for part in parameters.values()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta)).flip(0).numpy()


@pytest.fixture
def ask(sharpcli: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Run a command for its JSON document."""

    def run(*words: object) -> dict[str, Any]:
        answer = sharpcli(*words, "--json")
        document = json.loads(answer.stdout)
        # A file that needs a model or data beside it is shown, and cannot be analysed as it is.
        analysable = document["result"].get("analysable", True) if words[0] == "inspect" else True
        assert answer.exit_code == (0 if analysable else 3), answer.stderr
        return document

    return run


def named(case: str) -> list[str]:
    return ["--model", f"{HERE / case / 'net.py'}:make"]


def subject(case: str, file: str = "ck.pt") -> list[object]:
    return [HERE / case / file, *named(case), "--data", f"npz:{HERE / case / 'd.npz'}"]


def top(document: dict[str, Any]) -> list[float]:
    return [pair["value"] for pair in document["result"]["eigenvalues"]]


def test_a_tied_tensor_counts_once_in_every_command(ask: Callable[..., dict[str, Any]]) -> None:
    case, init = HERE / "tiedlm", HERE / "tiedlm" / "init.pt"
    states = [torch.load(case / name, weights_only=True) for name in ("ck.pt", "init.pt")]
    right = float((states[0]["e.weight"].double() - states[1]["e.weight"].double()).norm())
    assert right == pytest.approx(6.4555, abs=5e-5)
    for file in ("ck.pt", "m.safetensors", "m2.safetensors"):
        found = ask("distance", case / file, "--init", init, *named("tiedlm"))["result"]
        assert (found["num_parameters"], found["distance"]) == (28, pytest.approx(right, rel=1e-12))
        assert ask("distance", case / file, "--init", init)["result"]["distance"] == pytest.approx(right, rel=1e-12)
        assert ask("inspect", *subject("tiedlm", file))["result"]["num_parameters"] == 28
    line = ["compare", *subject("tiedlm"), "--metrics", "distance", "--init", init]
    assert ask(*line)["result"]["rows"][0]["distance"] == pytest.approx(right, rel=1e-12)
    path = ask("interpolate", *subject("tiedlm")[:1], init, *subject("tiedlm")[1:], "--points", 3)["result"]
    assert path["distance"] == pytest.approx(right, rel=1e-6)


def test_a_tied_head_that_is_left_out_is_the_embedding(ask: Callable[..., dict[str, Any]]) -> None:
    values = [top(ask("hessian", *subject("tiedlm", file), "--topk", 3, "--dtype", "float64")) for file in
              ("ck.pt", "m.safetensors", "m2.safetensors")]  # fmt: skip
    model = model_of("tiedlm")
    model.load_state_dict(torch.load(HERE / "tiedlm" / "ck.pt", weights_only=True))
    for found in values:
        numpy.testing.assert_allclose(found, dense_eigenvalues(model, "tiedlm")[:3], rtol=1e-3)


def test_buffers_of_spectral_norm_are_no_parameters(ask: Callable[..., dict[str, Any]]) -> None:
    case = HERE / "snold2"
    with_model = ask("distance", case / "ck.pt", "--init", case / "init.pt", *named("snold2"))
    assert with_model["result"]["distance"] == pytest.approx(2.3794, abs=5e-5)
    assert with_model["result"]["num_parameters"] == 39
    assert with_model["warnings"] == []
    without = ask("distance", case / "ck.pt", "--init", case / "init.pt")
    assert without["result"]["distance"] == with_model["result"]["distance"]
    assert "--model" in without["warnings"][0]


def test_a_compiled_model_is_the_module_inside(ask: Callable[..., dict[str, Any]]) -> None:
    found = top(ask("hessian", *subject("compiled"), "--topk", 3, "--dtype", "float64"))
    model = model_of("compiled")
    model.load_state_dict(torch.load(HERE / "compiled" / "ck.pt", weights_only=True))
    numpy.testing.assert_allclose(found, dense_eigenvalues(model._orig_mod, "compiled")[:3], rtol=1e-3)


def test_a_mask_may_be_infinite(ask: Callable[..., dict[str, Any]]) -> None:
    found = top(ask("hessian", *subject("infmask"), "--topk", 3, "--dtype", "float64"))
    assert found[0] == pytest.approx(0.8424, abs=5e-5)
    model = model_of("infmask")
    model.load_state_dict(torch.load(HERE / "infmask" / "ck.pt", weights_only=True))
    numpy.testing.assert_allclose(found, dense_eigenvalues(model, "infmask")[:3], rtol=1e-3)
    for words in (subject("infmask"), [HERE / "infmask" / "ck.pt"]):
        result = ask("inspect", *words)["result"]
        assert (result["num_parameters"], result["buffers"]) == (51, ["mask"])
        assert next(check for check in result["checks"] if check["name"] == "weights are finite")["passed"]
    same = ask("distance", HERE / "infmask" / "ck.pt", "--init", HERE / "infmask" / "ck.pt", *named("infmask"))["result"]
    assert (same["distance"], same["num_parameters"]) == (0, 51)


def weights_in(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Take the weights out of any of the sound files, by hand."""
    state = content.get("model", content.get("state_dict", content))
    tensors = {name.removeprefix("model.").removeprefix("module."): part for name, part in state.items() if part is not None}
    return {name: part for name, part in tensors.items() if name.partition(".")[0] in "anb"}


@pytest.mark.parametrize("name", SOUND)
def test_files_of_other_tools_give_the_right_eigenvalues(name: str, ask: Callable[..., dict[str, Any]]) -> None:
    model = model_of("formats")
    content = torch.load(FORMATS / f"{name}.pt", weights_only=False)  # These files are ours.
    model.load_state_dict(weights_in(content), strict=name != "old_bn")
    document = ask("hessian", *subject("formats", f"{name}.pt"), "--topk", 3, "--dtype", "float64")
    numpy.testing.assert_allclose(top(document), dense_eigenvalues(model, "formats")[:3], rtol=1e-3)
    stray = {"averagedmodel": "n_averaged", "extra_state": "t._extra_state", "lightning_crit": "criterion.weight"}.get(name)
    others = [warning for warning in document["warnings"] if "constant prediction" not in warning]
    assert all(f"'{stray}'" in warning for warning in others)
    assert len(others) == (stray is not None)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("swa_both", "state_dict", "swa_state_dict"),
        slow("timm_ema", "state_dict", "state_dict_ema"),
        slow("tv_ema", "model", "model_ema"),
    ],
)
def test_of_two_sets_of_weights_none_is_taken_silently(
    name: str, first: str, second: str, sharpcli: Callable[..., Any], ask: Callable[..., dict[str, Any]]
) -> None:
    place = FORMATS / f"{name}.pt"
    words = subject("formats", place.name)
    lines = (["hessian", *words], ["inspect", place], ["distance", place, "--init", place], ["compare", *words],
             ["sharpness", *words], ["interpolate", place, *words], ["surface", *words])  # fmt: skip
    for line in lines:
        answer = sharpcli(*line)
        assert (answer.exit_code, answer.stdout) == (3, "")
        assert f"'{first}'" in answer.stderr
        assert f"'{second}'" in answer.stderr
        assert "--weights" in answer.stderr
    for key in (first, second):
        named_by_option = ask("hessian", *words, "--topk", 1, "--weights", key)
        named_by_file = ask("hessian", f"{place}::{key}", *words[1:], "--topk", 1)
        assert top(named_by_option) == top(named_by_file)
        assert named_by_option["result"]["checkpoint"]["weights"] == key
        assert f"{name}.pt::{key}" in sharpcli("hessian", *words, "--topk", 1, "--weights", key).stdout
    both = ask("distance", f"{place}::{first}", "--init", f"{place}::{second}", *named("formats"))["result"]
    assert both["num_parameters"] == 69


@pytest.mark.parametrize(
    ("name", "word"),
    [("lfs", "Git LFS"), ("html", "web page"), ("opt_only", "optimizer"), ("trunc", "cut short")],
)
@pytest.mark.parametrize("command", ["hessian", "inspect", "distance", "compare"])
def test_what_is_no_checkpoint_is_called_what_it_is(command: str, name: str, word: str, sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli(command, FORMATS / f"{name}.pt")
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert word in answer.stderr


@pytest.mark.parametrize("line", ["inspect {0}", "distance {0} --init {0} --per-layer"])
@pytest.mark.parametrize("name", ["infmask/ck.pt", "formats/averagedmodel.pt", "formats/lightning_crit.pt"])
def test_eighty_columns_cut_nothing(line: str, name: str, sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli(*line.format(HERE / name).split(), COLUMNS="80")
    assert answer.exit_code == (3 if line.startswith("inspect") else 0), answer.stderr
    assert "…" not in answer.stdout
    rows = [row for row in answer.stdout.splitlines() if str(HERE) not in row and not row.startswith("over ")]
    assert max(map(len, rows)) <= 80


def test_a_path_mixes_what_differs_beside_the_weights(sharpcli: Callable[..., Any]) -> None:
    """Both ends are the checkpoints' own losses, though spectral norm's buffers differ; the length is that of the weights."""
    ends = [HERE / "snold2" / name for name in ("ck.pt", "init.pt")]
    words = [*ends, *subject("snold2")[1:], "--points", 3, "--dtype", "float64"]
    answer = sharpcli("interpolate", *words, "--json")
    assert answer.exit_code == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["result"]["distance"] == pytest.approx(2.3794, abs=5e-5)
    assert "'0.weight_u', '0.weight_v'" in document["warnings"][0]
    arrays = numpy.load(HERE / "snold2" / "d.npz")
    for alpha, end in zip((0, 1), ends, strict=True):
        model = model_of("snold2")
        model.load_state_dict(torch.load(end, weights_only=True))
        outputs = model.double().eval()(torch.as_tensor(arrays["x_train"]).double()).detach()
        loss = float(nn.functional.cross_entropy(outputs, torch.as_tensor(arrays["y_train"]).long()))
        place = document["result"]["alphas"].index(alpha)
        assert document["result"]["curves"][0]["loss"][place] == pytest.approx(loss, rel=1e-6)
    plane = sharpcli("surface", *ends, ends[0], *subject("snold2")[1:])
    assert (plane.exit_code, plane.stdout) == (3, "")
    assert "not trained" in plane.stderr
