"""Every error is one sentence and one hint, whoever found it, and the hint says what was meant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

NET = "import torch\n\n\ndef make(num_classes):\n    return torch.nn.Flatten()\n\n\ndef _private():\n    pass\n"

# What is typed behind `sharpcli`, the sentence, and the hint.
USAGE = [
    ("hessian", "CKPT... is missing.", "Write it like 'sharpcli hessian CKPT... [OPTIONS]'."),
    ("reparam a.pt", "OUT is missing.", "Write it like 'sharpcli reparam IN OUT [OPTIONS]'."),
    ("reparam a b c d", "Too many arguments for reparam: 'c d'.", "Write it like 'sharpcli reparam IN OUT [OPTIONS]'."),
    (
        "hessian a.pt --topkk 3",
        "There is no option --topkk.",
        "Did you mean --topk? See 'sharpcli hessian --help' for all options.",
    ),
    ("hessian a.pt --lr 3", "There is no option --lr.", "See 'sharpcli hessian --help' for all options."),
    ("hessian a.pt -x", "There is no option -x.", "See 'sharpcli hessian --help' for all options."),
    ("--foo", "There is no option --foo.", "See 'sharpcli --help' for all options."),
    ("hesian a.pt", "There is no command called 'hesian'.", "Did you mean hessian? See 'sharpcli --help' for all commands."),
    (
        "hessian a.pt --topk x",
        "--topk is 'x', which is not an integer.",
        "See 'sharpcli hessian --help' for the values that it takes.",
    ),
    (
        "hessian a.pt --tol x",
        "--tol is 'x', which is not a number.",
        "See 'sharpcli hessian --help' for the values that it takes.",
    ),
    ("hessian a.pt --topk", "--topk needs a value.", "Write it like --topk K."),
    ("hessian a.pt --trace=3", "--trace takes no value.", "Write --trace alone, or leave it out."),
    ("hessian a.pt --operator fischer", "--operator cannot be 'fischer'.", "Did you mean 'fisher'?"),
    ("hessian a.pt --which la", "--which cannot be 'la'.", "Did you mean 'LA'?"),
]


@pytest.mark.parametrize(("line", "sentence", "hint"), USAGE)
def test_what_the_parser_cannot_read(line: str, sentence: str, hint: str, sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli(*line.split())
    assert answer.exit_code == 2
    assert answer.stdout == ""
    first, second = answer.stderr.splitlines()
    assert first == f"error: {sentence}"
    assert second.startswith(f"hint: {hint}")


@pytest.mark.parametrize(
    ("line", "code", "hint"),
    [
        ("--data a.npz", 2, "Did you mean npz:a.npz?"),
        ("--data {folder}", 2, "Did you mean folder:{folder}?"),
        ("--data {net}", 2, "Name the function in it that returns the data: {net}:FUNCTION."),
        ("--data npz:{folder}", 3, "Did you mean folder:{folder}?"),
        ("--data folder:{npz}", 3, "Did you mean npz:{npz}?"),
        ("--data npy:a.npy", 2, "Known: cifar10, "),
        ("--model {net}", 2, "Did you mean {net}:make?"),
        ("--model nothere.py", 2, "Name the function in it that builds the model: nothere.py:FUNCTION."),
        (
            "--model a.safetensors",
            2,
            "That is a file of weights; --model takes the code of the model, such as net.py:FUNCTION.",
        ),
        ("--model ResNet34", 2, "Did you mean torchvision:ResNet34?"),
        ("--model torchvision.models.resnet34", 2, "Did you mean torchvision:resnet34?"),
        ("--model package.module.build", 2, "Did you mean package.module:build?"),
        ("--model mlpp", 2, "Did you mean 'mlp'? Known: "),
    ],
)
def test_a_path_in_place_of_a_name(
    line: str, code: int, hint: str, sharpcli: Callable[..., Any], final: Path, tmp_path: Path
) -> None:
    places = {"folder": tmp_path / "images", "net": tmp_path / "net.py", "npz": tmp_path / "a.npz"}
    places["folder"].mkdir()
    places["net"].write_text(NET)
    places["npz"].write_bytes(b"")
    answer = sharpcli("hessian", final, *line.format(**places).split())
    assert answer.exit_code == code, answer.stderr
    assert answer.stdout == ""
    assert answer.stderr.splitlines()[-1].startswith(f"hint: {hint.format(**places)}")


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("line", ["hessian a.pt --topkk 3", "hessian a.pt --engine fusd", "hesian", "inspect nothere.pt"])
def test_an_error_is_folded_at_words(line: str, width: int, sharpcli: Callable[..., Any]) -> None:
    wide = sharpcli(*line.split()).stderr
    narrow = sharpcli(*line.split(), COLUMNS=str(width)).stderr
    assert max(map(cell_len, narrow.splitlines())) <= width
    assert narrow.split() == wide.split()


@pytest.mark.parametrize("width", [50, 60, 79])
@pytest.mark.parametrize("command", ["hessian", "train", None])
def test_a_narrow_help_is_folded_and_not_cut(command: str | None, width: int, sharpcli: Callable[..., Any]) -> None:
    words = [command] if command else []
    text = sharpcli(*words, "--help", COLUMNS=str(width)).stdout
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_without_words_there_is_help(sharpcli: Callable[..., Any]) -> None:
    answer = sharpcli()
    assert answer.exit_code == 2
    assert "hessian" in answer.stdout + answer.stderr
    assert "error:" not in answer.stderr


@pytest.mark.slow  # A process of its own.
def test_a_refused_variable_of_torch_is_no_internal_error():
    words = [sys.executable, "-m", "sharpcli", "sharpness", "sample_checkpoints/sgd"]
    ended = subprocess.run(words, env=os.environ | {"TORCH_LOGS": "garbage"}, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Correct or unset TORCH_LOGS" in ended.stderr
    assert "Internal error" not in ended.stderr
