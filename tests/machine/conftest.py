"""Models of a user's own code, and what every refusal looks like."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Answer

NET = """import os, sys, threading, warnings
import torch
from torch import nn

CALLS = [0]
{imported}
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, inputs):
        CALLS[0] += 1
{called}
        return super().forward(inputs)

def net():
{built}
    return Net()
"""


@pytest.fixture
def own_model(tmp_path: Path, data_file: Path) -> Callable[..., list[str]]:
    """Write a model with some lines of code that run when it is imported, built or called; return words that name it."""

    def write(*, imported: str = "", built: str = "pass", called: str = "pass") -> list[str]:
        parts = {
            "imported": imported,
            "built": textwrap.indent(textwrap.dedent(built), " " * 4),
            "called": textwrap.indent(textwrap.dedent(called), " " * 8),
        }
        (tmp_path / "net.py").write_text(NET.format(**parts))
        return ["--model", f"{tmp_path / 'net.py'}:net", "--data", f"npz:{data_file}"]

    return write


def sentence_and_hint(answer: Answer, code: int) -> None:
    """One sentence, one hint, the exit code, and nothing that looks like our own fault."""
    assert answer.exit_code == code, answer.stderr
    lines = [line for line in answer.stderr.splitlines() if not line.startswith(("warning:", "Plot written"))]
    assert [line.partition(" ")[0] for line in lines] == ["error:", "hint:"], answer.stderr
    for words in ("Traceback", "Internal error", "report it"):
        assert words not in answer.stderr
