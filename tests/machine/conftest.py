"""Command lines in processes of their own that start at once, and models of a user's own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Answer

LONGEST = 60.0  # Seconds.


class Machine:
    """Starts command lines one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        line = [sys.executable, "-m", "tests.machine.server"]
        root = Path(__file__).parents[2]
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        places = {"PYTHONPATH": os.pathsep.join(map(str, (root, *sys.path)))}
        self.server = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | alone | places
        )

    def start(
        self,
        *words: object,
        cwd: Path | None = None,
        stdout: str | None = None,
        stderr: str | None = None,
        limits: dict[str, int] | None = None,
        kill_after: float = LONGEST,
        **environment: str,
    ) -> int:
        """Start one and return the number of its process."""
        self.count += 1
        self.files = [str(given or self.folder / f"{self.count}.{name}") for given, name in ((stdout, "out"), (stderr, "err"))]
        asked = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or self.folder),
            "stdout": self.files[0],
            "stderr": self.files[1],
            "limits": limits or {},
            "environment": environment,
            "kill_after": kill_after,
        }
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self._told("process"))

    def end(self) -> Answer:
        """Wait for its end."""
        code = int(self._told("code"))
        stdout, stderr = (
            "" if name.startswith("/dev") else Path(name).read_text(encoding="utf-8", errors="replace") for name in self.files
        )
        return Answer(code, stdout, stderr)

    def __call__(self, *words: object, **how: object) -> Answer:
        self.start(*words, **how)  # type: ignore[arg-type]
        return self.end()

    def _told(self, name: str) -> object:
        assert self.server.stdout is not None
        return json.loads(self.server.stdout.readline())[name]

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(timeout=60)
        assert self.server.stdout is not None
        self.server.stdout.close()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    made.close()


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
