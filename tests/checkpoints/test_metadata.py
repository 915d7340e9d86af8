"""What a checkpoint says about itself is of the right types, or is refused; what cannot be used is the file's fault."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpcli import checkpoints
from sharpcli.errors import InputError

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"


@pytest.fixture
def changed(final: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the checkpoint of a run with one value in its metadata replaced."""
    content = torch.load(final, weights_only=True)

    def change(where: str, value: object) -> Path:
        altered: Any = copy.deepcopy(content)
        holder, *rest = where.split(".")
        parts = altered["metadata"]
        for name in rest:
            parts, holder = parts[holder], name
        parts[holder] = value
        torch.save(altered, tmp_path / "x.pt")
        return tmp_path / "x.pt"

    return change


WRONG: list[tuple[str, object, str]] = [
    ("step", "3", "'file.metadata.step' is not an integer"),
    ("step", -1, "'file.metadata.step' is out of range"),
    ("seed", 10**30, "'file.metadata.seed' is not an integer"),
    ("model", "mlp", "'file.metadata.model' is not a dictionary"),
    ("model.arguments", "hidden=4", "'file.metadata.model.arguments' is not a list"),
    ("model.arguments", [3], r"'file.metadata.model.arguments\[0\]' is not a string"),
    ("data.fingerprint", b"x", "'file.metadata.data.fingerprint' is not a string"),
    ("plan.lr", float("nan"), "'file.metadata.plan.lr' is not a finite number"),
    ("plan.momentum", 1.0, "'file.metadata.plan.momentum' is out of range"),
    ("plan.momentum_rule", "heavy", "'file.metadata.plan.momentum_rule' is not 'nesterov' or 'polyak'"),
    ("final", {"train_loss": "1"}, "'file.metadata.final.train_loss' is not a finite number"),
    ("final.train_loss", torch.tensor(1.0), "'file.metadata.final.train_loss' is not a finite number"),
    ("init", {"path": "init.pt"}, "'file.metadata.init.sha256' is missing"),
    ("parameters", ["gone"], "does not list tensors of the file, each once"),
    ("parameters", ["1.bias", "1.bias"], "does not list tensors of the file, each once"),
    ("whatever", {"a": torch.ones(1)}, "'file.metadata.whatever.a' is not a number or a string"),
]


@pytest.mark.parametrize(("where", "value", "words"), WRONG, ids=[f"{where} {value}" for where, value, _ in WRONG])
def test_a_value_of_the_wrong_type_is_named(where: str, value: object, words: str, changed: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="says that it is a sharpcli checkpoint") as caught:
        checkpoints.read(changed(where, value))
    assert caught.match(words)


def test_what_a_later_version_adds_is_kept(changed: Callable[..., Path]) -> None:
    assert checkpoints.read(changed("added", {"later": [1, None]})).metadata["added"] == {"later": [1, None]}


USELESS: list[tuple[str, object, str]] = [
    ("loss", "hinge", "records a loss that cannot be used: There is no loss called 'hinge'"),
    ("model.spec", "mpl", "records a model that cannot be used: There is no model called 'mpl'"),
    ("model.arguments", ["hidden=0"], "records a model that cannot be used: The option hidden is 0"),
    ("model.arguments", ["hidden=" + "9" * 30], "records a model that cannot be used: The option hidden cannot be"),
    (
        "model.arguments",
        ["hidden=1000000000"],
        "would have 5000000000 parameters or more, many more than the file of weights contains",
    ),
    ("model.arguments", ["hidden=3000,3000,3000"], "would have 18"),
    ("data.arguments", ["tokens=3"], "records data that cannot be used: The option tokens cannot be 3"),
    ("data.spec", "folder:/", "There is no folder '/train'"),
    ("data.spec", "npz:/dev/zero", "it is a device"),
]


@pytest.mark.parametrize(
    ("where", "value", "words"), USELESS, ids=[f"{where} {str(value)[:30]}" for where, value, _ in USELESS]
)
def test_what_is_recorded_and_cannot_be_used_is_the_fault_of_the_file(
    where: str, value: object, words: str, changed: Callable[..., Path], sharpcli: Callable[..., Any]
) -> None:
    answer = sharpcli("hessian", changed(where, value), "--topk", 1)
    assert answer.exit_code == 3, answer.stderr
    assert words in answer.stderr
    assert "--" + (where.partition(".")[0] if "." in where else where) in answer.stderr.splitlines()[-1]
    assert answer.stdout == ""


def test_what_the_user_says_stays_the_fault_of_the_user(final: Path, sharpcli: Callable[..., Any]) -> None:
    for words in (["--model", "mpl"], ["--model-arg", "hidden=0"], ["--data-arg", "tokens=3"]):
        assert sharpcli("hessian", final, *words).exit_code == 2


def test_a_file_of_version_1_is_read_with_the_present_names(tmp_path: Path):
    """Version 1 called the resolved settings "recipe", and the recipe of a paper "preset"."""
    former = {"plan": "recipe", "recipe": "preset"}
    for place in (SAMPLES / "sgd" / "final.pt", SAMPLES / "sgd" / "init.pt"):
        content = torch.load(place, weights_only=True)
        content["format_version"] = 1
        content["metadata"] = {former.get(name, name): value for name, value in content["metadata"].items()}
        torch.save(content, tmp_path / "old.pt")
        old, new = checkpoints.read(tmp_path / "old.pt"), checkpoints.read(place)
        assert list(old.metadata.items()) == list(new.metadata.items())
        assert old.sha256() == new.sha256()
