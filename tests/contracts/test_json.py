"""`--json` prints one document and nothing else; the Python functions return the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sharpcli as package
from sharpcli.cli.app import app

KEYS = {"schema", "command", "status", "settings", "provenance", "warnings", "result"}
# Options that make each command quick on 39 parameters; {a} and {b} are two checkpoints.
LINES = {
    "train": "train {tiny} --steps 3 --out {out}",
    "hessian": "hessian {a} --topk 3",
    "sharpness": "sharpness {a} --subspace 0,5 --restarts 1",
    "interpolate": "interpolate {a} {b} --points 5",
    "distance": "distance {a} --per-layer",
    "compare": "compare {a} {b}",
    "inspect": "inspect {a}",
    "reparam": "reparam {a} {out}",
    "surface": "surface {a} --points 3",
    "doctor": "doctor --no-measure",
    "watch": "watch {run} --every 99 --metrics hessian,distance --measure gradient-norm",
}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "hessian": {"topk": 3},
    "sharpness": {"subspace": (0, 5), "restarts": 1},
    "interpolate": {"points": 5},
    "distance": {"per_layer": True},
    "compare": {},
    "inspect": {},
}


def refuse(literal: str) -> None:
    raise AssertionError(f"{literal} is not JSON")


def read(text: str) -> dict[str, Any]:
    """Read all of a stream as one document without NaN, Infinity or a key that is there twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    document: dict[str, Any] = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
    return document


def without(value: Any, *names: str) -> Any:
    """Leave out some keys, however deep."""
    if isinstance(value, dict):
        return {key: without(item, *names) for key, item in value.items() if key not in names}
    return [without(item, *names) for item in value] if isinstance(value, list) else value


@pytest.fixture
def words(runs: Path, tiny: list[str], tmp_path: Path) -> Callable[[str], list[str]]:
    places = {
        "run": runs / "sgd",
        "a": runs / "sgd" / "final.pt",
        "b": runs / "fullbatch" / "final.pt",
        "out": tmp_path / "out",
    }

    def fill(command: str) -> list[str]:
        found = [tiny if word == "{tiny}" else [word.format(**places)] for word in LINES[command].split()]
        return [word for part in found for word in part]

    return fill


def test_every_command_has_a_line_here() -> None:
    assert set(LINES) == {command.name for command in app.registered_commands}


@pytest.mark.parametrize("command", LINES)
def test_one_document_is_all_of_stdout(command: str, sharpcli: Callable[..., Any], words: Callable[[str], list[str]]) -> None:
    answer = sharpcli(*words(command), "--json")
    assert answer.exit_code == 0, answer.stderr
    document = read(answer.stdout)
    assert set(document) == KEYS
    assert document["schema"] == "sharpcli/2"
    assert document["command"] == command
    assert document["status"] == "ok"
    assert {"sharpcli", "torch", "python"} <= set(document["provenance"])
    assert document["settings"].get("seed", 0) == 0  # `doctor` has none.
    assert document["warnings"] == []
    assert answer.stderr == ""


@pytest.mark.parametrize("command", FUNCTIONS)
def test_the_function_returns_the_same_numbers(
    command: str, sharpcli: Callable[..., Any], words: Callable[[str], list[str]], runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = read(sharpcli(*words(command), "--json").stdout)
    capfd.readouterr()
    a, b = runs / "sgd" / "final.pt", runs / "fullbatch" / "final.pt"
    places: dict[str, list[Any]] = {"interpolate": [a, b], "compare": [[a, b]]}
    result = getattr(package, command)(*places.get(command, [a]), **FUNCTIONS[command])
    assert capfd.readouterr() == ("", "")  # the library is silent
    assert without(result.to_dict(), "seconds") == without(document["result"], "seconds")
    assert json.loads(json.dumps(result.settings)) == document["settings"]
    assert list(result.warnings) == document["warnings"]


def test_the_train_function_returns_the_same_numbers(
    sharpcli: Callable[..., Any], words: Callable[[str], list[str]], data_file: Path, tmp_path: Path
) -> None:
    document = read(sharpcli(*words("train"), "--json").stdout)
    again = package.train(model="mlp", model_arg=("hidden=4",), data=f"npz:{data_file}", steps=3, out=str(tmp_path / "again"))
    places = ("seconds", "run", "folder", "checkpoint", "next_commands")
    assert without(again.to_dict(), *places) == without(document["result"], *places)


def test_eigenvalues_are_objects_with_value_and_residual(sharpcli: Callable[..., Any], final: Path) -> None:
    result = read(sharpcli("hessian", final, "--topk", 4, "--json").stdout)["result"]
    found = result["eigenvalues"]
    assert [one["index"] for one in found] == [1, 2, 3, 4]
    values = [one["value"] for one in found]
    assert values == sorted(values, reverse=True)
    assert values[0] == result["lambda_max"]
    for one in found:
        assert 0 <= one["residual"] < 1e-2 * values[0]
        low, high = one["interval"]
        assert low < one["value"] < high
        assert high - low > 2 * one["residual"]  # Noise and rounding widen it.
        assert one["verdict"] == "certified"
        assert one["verified"] == (one["index"] == 1)
    assert result["products"] == sum(result["products_by_use"].values())
    assert set(result["products_by_use"]) == {"lanczos", "confirmation", "verification"}


@pytest.mark.parametrize(
    ("line", "plural", "count"),
    [
        ("hessian {0} {1} {2} --topk 1", "checkpoints", 3),
        ("sharpness {0} {1} --subspace 0 --epsilon 1e-3 --restarts 1", "checkpoints", 2),
        ("distance {0} {1}", "checkpoints", 2),
        ("inspect {0} {1}", "checkpoints", 2),
        ("interpolate {0} {1} {2} --points 2", "paths", 3),
    ],
)
def test_several_checkpoints_give_a_list(line: str, plural: str, count: int, sharpcli: Callable[..., Any], runs: Path) -> None:
    places = [runs / mode for mode in ("sgd", "largebatch", "fullbatch")]
    document = read(sharpcli(*(word.format(*places) for word in line.split()), "--json").stdout)
    assert list(document["result"]) == [plural]
    results = document["result"][plural]
    assert len(results) == count
    if plural == "paths":
        ends = [(one["start"]["mode"], one["end"]["mode"]) for one in results]
        assert ends == [("sgd", "largebatch"), ("sgd", "fullbatch"), ("largebatch", "fullbatch")]
    else:
        assert [one["checkpoint"]["mode"] for one in results] == ["sgd", "largebatch", "fullbatch"][:count]


def test_compare_is_one_result_with_a_row_a_checkpoint(sharpcli: Callable[..., Any], runs: Path) -> None:
    result = read(sharpcli("compare", runs / "sgd", runs / "fullbatch", "--json").stdout)["result"]
    assert [row["checkpoint"]["mode"] for row in result["rows"]] == ["sgd", "fullbatch"]


def test_warnings_are_in_the_document_and_on_stderr(
    sharpcli: Callable[..., Any], final: Path, tiny: list[str], tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    moved = tmp_path / "moved.npz"
    np.savez(moved, **arrays | {"x_train": arrays["x_train"] + 1})
    lines = [
        ["train", *tiny, "--steps", 1, "--stop-train-loss", 1e-9, "--out", tmp_path / "out"],
        ["hessian", final, "--topk", 1, "--data", f"npz:{moved}"],
        ["sharpness", final, "--subspace", 0, "--data", f"npz:{moved}"],
        ["compare", final, "--data", f"npz:{moved}", "--metrics", "hessian"],
    ]
    for line in lines:
        answer = sharpcli(*line, "--json")
        assert answer.exit_code == 0, answer.stderr
        warnings = read(answer.stdout)["warnings"]
        assert warnings
        assert answer.stderr.splitlines() == [f"warning: {warning}" for warning in warnings]


def test_data_that_changed_since_training_warn_in_the_document_too(
    sharpcli: Callable[..., Any], tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    """The checkpoint's own data file was rewritten: the numbers are about other data, and a script must learn of it."""
    own = tmp_path / "own.npz"
    np.savez(own, **arrays)
    options = ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"npz:{own}", "--steps", 1]
    assert sharpcli("train", *options, "--out", tmp_path / "run").exit_code == 0
    np.savez(own, **arrays | {"y_test": arrays["y_test"][::-1]})
    answer = sharpcli("hessian", tmp_path / "run" / "sgd", "--topk", 1, "--json")
    assert "fingerprint" in answer.stderr
    assert any("fingerprint" in warning for warning in read(answer.stdout)["warnings"])


def test_a_loss_that_is_not_finite_is_null(sharpcli: Callable[..., Any], runs: Path) -> None:
    answer = sharpcli("interpolate", runs / "sgd", runs / "fullbatch", "--range=-1e38:1e38", "--points", 3, "--json")
    assert answer.exit_code == 0, answer.stderr
    result = read(answer.stdout)["result"]
    for curve in result["curves"]:
        assert curve["loss"].count(None) == curve["not_finite"] == 2
        assert all(curve["loss"][result["alphas"].index(end)] is not None for end in (0, 1))


def test_code_that_prints_does_not_spoil_the_document(new_process: Callable[..., Any], final: Path, tmp_path: Path) -> None:
    """A user's model file may print; stdout is for the answer alone."""
    code = (
        "from torch import nn\nprint('loading')\n\ndef net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))\n"
    )
    (tmp_path / "noisy.py").write_text(code)
    answer = new_process("hessian", final, "--topk", 1, "--model", f"{tmp_path / 'noisy.py'}:net", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert read(answer.stdout)["command"] == "hessian"


def test_not_converged_is_said_in_the_document(sharpcli: Callable[..., Any], final: Path) -> None:
    words = ["hessian", final, "--topk", 3, "--max-hvp", 3, "--json"]
    answer = sharpcli(*words)
    assert answer.exit_code == 0
    result = read(answer.stdout)["result"]
    assert not result["converged"]
    assert "--max-hvp" in result["advice"]
    assert {one["verdict"] for one in result["eigenvalues"]} == {"budget-limited"}
    strict = sharpcli(*words, "--strict")
    assert strict.exit_code == 5
    assert without(read(strict.stdout)["result"], "seconds") == without(result, "seconds")
    assert strict.stderr.splitlines()[0].startswith("error: ")
