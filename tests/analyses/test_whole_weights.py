"""Every command counts the same parameters, takes the same files, and refuses the same types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sharpcli
from sharpcli.errors import InputError, SettingsError
from tests.lanes import crossed

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5, bias=False)
        self.second = nn.Linear(5, 5, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(5)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.head = nn.Linear(5, 3)
        self.register_buffer("scale", self.head.weight.detach() + 1)

    def forward(self, x):
        return self.head(self.frozen(self.norm(self.second(self.first(x).tanh()))))

def make():
    return Net()

def needy(num_classes):
    return Net()
"""
TRAINED = 25 + 10 + 18


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of weights of a net with a tie, a frozen layer and buffers, and the net's code."""
    folder = tmp_path_factory.mktemp("tied")
    (folder / "net.py").write_text(CODE)
    scope: dict[str, Any] = {}
    exec(CODE, scope)
    fixed: dict[str, torch.Tensor] = {}
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        state = scope["make"]().state_dict()
        fixed = fixed or {key: part for key, part in state.items() if key.startswith(("frozen", "scale"))}
        torch.save({**state, **fixed}, folder / f"{name}.pt")
    return folder


@pytest.fixture
def ask(sharpcli: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    def run(*words: object) -> dict[str, Any]:
        answer = sharpcli(*words, "--json")
        # A file that needs a model or data beside it is shown, and cannot be analysed as it is.
        analysable = words[0] != "inspect" or json.loads(answer.stdout)["result"]["analysable"]
        assert answer.exit_code == (0 if analysable else 3), answer.stderr
        return json.loads(answer.stdout)

    return run


def right(folder: Path) -> float:
    """Sum over what is trained, by hand."""
    first, second = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("a", "b"))
    trained = ("first.weight", "norm.weight", "norm.bias", "head.weight", "head.bias")
    return float(sum(((first[name].double() - second[name].double()) ** 2).sum() for name in trained) ** 0.5)


def test_every_command_counts_the_same(place: Path, data_file: Path, ask: Callable[..., dict[str, Any]]) -> None:
    a, b, words = place / "a.pt", place / "b.pt", ["--model", f"{place / 'net.py'}:make", "--data", f"npz:{data_file}"]
    assert ask("distance", b, "--init", a, *words[:2])["result"]["distance"] == pytest.approx(right(place), rel=1e-12)
    assert ask("distance", b, "--init", a, *words)["result"]["num_parameters"] == TRAINED
    assert ask("inspect", a, *words)["result"]["num_parameters"] == TRAINED
    assert ask("inspect", a, *words[:2])["result"]["num_parameters"] == TRAINED
    assert ask("hessian", a, *words, "--topk", 1)["result"]["conditions"]["num_parameters"] == TRAINED
    assert ask("interpolate", a, b, *words, "--points", 3)["result"]["distance"] == pytest.approx(right(place), rel=1e-6)
    row = ask("compare", b, *words, "--metrics", "distance", "--init", a)["result"]["rows"][0]
    assert row["distance"] == pytest.approx(right(place), rel=1e-12)


def test_without_a_model_it_is_said_what_cannot_be_known(place: Path, ask: Callable[..., dict[str, Any]]) -> None:
    document = ask("distance", place / "b.pt", "--init", place / "a.pt")
    assert document["result"]["known_by"] == "names and values"
    assert document["result"]["ties"] == {"second.weight": "first.weight"}
    assert "--model" in document["warnings"][0]
    document = ask("inspect", place / "a.pt")
    assert document["result"]["known_by"] == "names and values"
    assert "--model" in document["warnings"][0]


def test_a_builder_that_wants_the_data_gets_them(place: Path, data_file: Path, ask: Callable[..., dict[str, Any]]) -> None:
    words = [place / "b.pt", "--init", place / "a.pt", "--model", f"{place / 'net.py'}:needy"]
    assert ask("distance", *words, "--data", f"npz:{data_file}")["result"]["num_parameters"] == TRAINED
    with pytest.raises(InputError, match="num_classes") as caught:
        sharpcli.distance(place / "b.pt", init=str(place / "a.pt"), model=f"{place / 'net.py'}:needy")
    assert "--data" in caught.value.hint


def test_models_that_need_no_code_of_the_users(runs: Path, tiny: list[str], tmp_path: Path) -> None:
    """Our own by what a run has on record, torchvision's by the last layer; ours alone cannot be built without a shape."""
    own = sharpcli.distance(runs / "sgd" / "final.pt")
    assert own.known_by == "record"
    built = sharpcli.distance(runs / "sgd" / "final.pt", model="mlp")
    assert (built.known_by, built.distance, built.num_parameters) == ("model", own.distance, own.num_parameters)
    plain = tmp_path / "plain.pt"
    torch.save(torch.load(runs / "sgd" / "final.pt", weights_only=True)["state_dict"], plain)
    with pytest.raises(InputError, match="shape") as caught:
        sharpcli.distance(plain, init=str(plain), model="mlp")
    assert "--data" in caught.value.hint
    from torchvision.models import squeezenet1_1

    net = squeezenet1_1(num_classes=7)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    found = sharpcli.distance(tmp_path / "net.pt", init=str(tmp_path / "net.pt"), model="torchvision:squeezenet1_1")
    assert found.num_parameters == sum(part.numel() for part in net.parameters())


def test_two_sets_of_one_file_side_by_side(
    runs: Path, tiny: list[str], ask: Callable[..., dict[str, Any]], sharpcli: Callable[..., Any], tmp_path: Path
) -> None:
    states = [torch.load(runs / mode / "final.pt", weights_only=True)["state_dict"] for mode in ("sgd", "fullbatch")]
    place = tmp_path / "both.pt"
    torch.save({"state_dict": states[0], "state_dict_ema": states[1]}, place)
    ends = [f"{place}::state_dict", f"{place}::state_dict_ema"]
    expected = ask("interpolate", runs / "sgd", runs / "fullbatch", "--points", 3)["result"]
    found = ask("interpolate", *ends, *tiny, "--points", 3)["result"]
    assert (found["distance"], found["curves"]) == (expected["distance"], expected["curves"])
    assert [found[end]["weights"] for end in ("start", "end")] == ["state_dict", "state_dict_ema"]
    answer = sharpcli("compare", *ends, *tiny, "--metrics", "hessian", COLUMNS="200")
    rows = [row.split()[0] for row in answer.stdout.splitlines() if row.strip().startswith("both")]
    assert rows == ["both::state_dict", "both::state_dict_ema"]
    assert "the same weights" not in answer.stderr
    found = ask("distance", ends[1], "--init", ends[0])["result"]
    assert found["distance"] == pytest.approx(expected["distance"], rel=1e-6)
    assert ask("hessian", place, *tiny, "--topk", 1, "--weights", "ema")["result"]["checkpoint"]["path"] == ends[1]


def test_training_may_begin_from_a_set_of_weights(runs: Path, tiny: list[str], tmp_path: Path) -> None:
    state = torch.load(runs / "sgd" / "final.pt", weights_only=True)["state_dict"]
    torch.save({"model": state, "model_ema": {name: part + 1 for name, part in state.items()}}, tmp_path / "x.pt")
    how = {"model": "mlp", "model_arg": ("hidden=4",), "data": tiny[-1], "steps": 1}
    sharpcli.train(**how, init_from=f"{tmp_path / 'x.pt'}::model_ema", out=str(tmp_path / "run"))
    begun = torch.load(tmp_path / "run" / "sgd" / "init.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(begun[name], part + 1) for name, part in state.items())
    with pytest.raises(InputError, match="2 sets of weights"):
        sharpcli.train(**how, init_from=str(tmp_path / "x.pt"), out=str(tmp_path / "other"))


def test_an_initial_file_of_one_set_needs_no_key(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    torch.save({"model": state, "model_ema": state}, tmp_path / "x.pt")
    torch.save(state, tmp_path / "init.pt")
    assert sharpcli.distance(tmp_path / "x.pt", weights="ema", init=str(tmp_path / "init.pt")).distance == 0
    assert sharpcli.distance(tmp_path / "x.pt", weights="model", init=str(tmp_path / "x.pt")).distance == 0
    with pytest.raises(SettingsError, match="empty"):
        sharpcli.distance(tmp_path / "x.pt", weights="")


def test_the_plane_of_a_run_with_wrapped_names(runs: Path, tmp_path: Path) -> None:
    """Saved steps are matched with the model as any other weights are."""
    from sharpcli import checkpoints

    for path in sorted((runs / "sgd").glob("*.pt")):
        content = torch.load(path, weights_only=True)
        if "state_dict" in content and "metadata" in content:
            wrapped = {f"module.{name}": part for name, part in content["state_dict"].items()}
            about = {key: value for key, value in content["metadata"].items() if key not in ("parameters", "init")}
            checkpoints.write(tmp_path / path.name, wrapped, about)
    plain, other = (sharpcli.surface([folder], axes="pca", points=3) for folder in (runs / "sgd", tmp_path))
    numpy.testing.assert_allclose(other.loss, plain.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("command", "dtype", "container"),
    crossed(
        ["hessian", "inspect", "distance", "compare", "sharpness", "interpolate", "surface"],
        [torch.complex64, torch.int32, torch.bool, torch.float8_e4m3fn],
        ["pt", "legacy", "safetensors", "wrapped"],
    ),
)
def test_every_command_refuses_the_same_types(
    command: str, dtype: torch.dtype, container: str, runs: Path, tiny: list[str], sharpcli: Callable[..., Any], tmp_path: Path
) -> None:
    state = torch.load(runs / "sgd" / "final.pt", weights_only=True)["state_dict"]
    state["1.bias"] = torch.ones(4).to(dtype)
    place = tmp_path / ("x.safetensors" if container == "safetensors" else "x.pt")
    if container == "safetensors":
        save_file(state, place)
    else:
        content = {"model": state} if container == "wrapped" else state
        torch.save(content, place, _use_new_zipfile_serialization=container != "legacy")
    more = {"interpolate": [place], "distance": ["--init", place]}.get(command, [])
    for words in (tiny, tiny[:0]) if command in ("inspect", "distance") else (tiny,):
        answer = sharpcli(command, place, *more, *words)
        assert (answer.exit_code, answer.stdout) == (3, "")
        assert "real floating-point numbers" in answer.stderr


def test_inspect_says_what_is_in_a_file(tmp_path: Path, sharpcli: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 3, bias=False)).bfloat16()
    model[2].weight = model[0].weight
    torch.save(
        {"model": {**model.state_dict(), "criterion.weight": torch.ones(3)}, "ema": model.state_dict()}, tmp_path / "x.pt"
    )
    shown = sharpcli("inspect", tmp_path / "x.pt", "--weights", "model", COLUMNS="80")
    assert shown.exit_code == 3
    assert "error: Not every file can be analysed." in shown.stderr
    words = " ".join(shown.stdout.split())
    for said in (
        "state dict under 'model'", "bfloat16, float32, int64", "15 (identified by names and values)",
        "1 (2.weight to 0.weight)", "weights model", "1 (criterion.weight)",
        "3 (1.running_mean, 1.running_var, 1.num_batches_tracked)",
    ):  # fmt: skip
        assert said in words
    assert "…" not in shown.stdout
    result = json.loads(sharpcli("inspect", tmp_path / "x.pt", "--weights", "model", "--json").stdout)["result"]
    assert result["num_parameters"] == 15
    assert result["ties"] == {"2.weight": "0.weight"}
    assert result["left_out"] == ["criterion.weight"]
    assert result["checkpoint"]["weights"] == "model"


def test_inspect_tries_a_model_without_data(place: Path, tmp_path: Path) -> None:
    """It fits, or it does not and the guess says so; the file is not analysable either way."""

    def fits(model: str) -> tuple[Any, Any]:
        found = sharpcli.inspect(place / "a.pt", model=f"{tmp_path / 'net.py'}:{model}")
        assert not found.analysable
        return next(check for check in found.checks if check.name == "weights fit the model"), found

    (tmp_path / "net.py").write_text(f"{CODE}\ndef other():\n    return nn.Linear(5, 3)\n")
    check, found = fits("make")
    assert (check.passed, found.known_by, found.num_parameters, found.warnings) == (True, "model", TRAINED, ())
    check, found = fits("other")
    assert (check.passed, found.known_by) == (False, "names and values")
    assert "missing from the file 'weight'; missing from the file 'bias'" in check.detail
    assert found.warnings


@pytest.mark.parametrize("line", ["inspect {0}", "distance {0} --init {0} --per-layer"])
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_long_names_and_many_layers_are_not_cut(columns: int, line: str, tmp_path: Path, sharpcli: Callable[..., Any]) -> None:
    state = {f"encoder.layers.{i}.attention.self.output.dense.projection.weight": torch.randn(3, 2) for i in range(12)}
    torch.save(state, tmp_path / "x.pt")
    answer = sharpcli(*line.format(tmp_path / "x.pt").split(), COLUMNS=str(columns))
    assert answer.exit_code == (3 if line.startswith("inspect") else 0), answer.stderr
    squeezed = "".join(answer.stdout.split())  # A name that is longer than a line is broken.
    assert all((name in answer.stdout) if columns > 70 else (name in squeezed) for name in state)
    shortened = {word for word in answer.stdout.split() if "…" in word}
    assert len(shortened) in (0, len(state))  # All layers or none; each is listed in full.
    assert all(word.startswith("encoder.layers.") and word.endswith(".weight") for word in shortened)
    assert max(map(len, answer.stdout.splitlines())) <= columns


def test_a_rescaled_foreign_file_keeps_its_types_and_says_what_is_trained(
    runs: Path, tiny: list[str], sharpcli: Callable[..., Any], tmp_path: Path
) -> None:
    state = torch.load(runs / "sgd" / "final.pt", weights_only=True)["state_dict"]
    torch.save({f"module.{name}": part.bfloat16() for name, part in state.items()}, tmp_path / "x.pt")
    answer = sharpcli("reparam", tmp_path / "x.pt", tmp_path / "y.pt", *tiny)
    assert answer.exit_code == 0, answer.stderr
    written = torch.load(tmp_path / "y.pt", weights_only=True)
    assert {part.dtype for part in written["state_dict"].values()} == {torch.bfloat16}
    assert written["metadata"]["parameters"] == list(state)
