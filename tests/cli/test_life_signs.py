"""What a command shows while it works: one bar on a terminal, lines elsewhere, and a clean terminal whatever ends it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lanes import thinned
from tests.processes import Machine
from tests.terminal import Shown, on_terminal

LONG = ["--steps", 10**6, "--batch-size", 16, "--eval-every", 500]
LARGE = ["--model", "mlp", "--model-arg", "hidden=64,64"]
BAR = "━"
SIGNS = re.compile(r"^progress: .*; \d+ % done; \d+:\d\d:\d\d elapsed(, about \d+:\d\d:\d\d left)?$")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, sharpcli: Callable[..., Any], data_file: Path) -> Path:
    """A model whose searches take some time."""
    out = tmp_path_factory.mktemp("large")
    words = ["train", *LARGE, "--data", f"npz:{data_file}", "--mode", "sgd,fullbatch", "--steps", 3, "--out", out]
    assert sharpcli(*words).exit_code == 0
    return out


def is_clean(shown: Shown) -> bool:
    """Tell whether nothing of the bar is left, and the cursor is there."""
    return shown.screen.cursor and BAR not in shown.screen.text()


@pytest.mark.parametrize("columns", thinned([15, 40, 80]))
def test_the_bar_is_one_line_within_the_terminal(machine: Machine, columns: int, large: Path) -> None:
    words = ["hessian", large / "sgd", large / "fullbatch", "--topk", 5, "--density", "--trace", "--per-layer", "--json"]
    shown = on_terminal(machine, *words, columns=columns)
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["command"] == "hessian"
    assert shown.screen.longest <= columns
    assert is_clean(shown)
    assert shown.screen.text() == ""
    assert len(shown.screen.frames) > 3
    assert "\x1b[2A" not in shown.raw  # It never is two lines high.


def test_the_bar_tells_of_the_whole_command(machine: Machine, large: Path) -> None:
    words = ["hessian", large / "sgd", large / "fullbatch", "--topk", 5, "--density", "--per-layer"]
    frames = on_terminal(machine, *words, columns=100).screen.frames
    told = "\n".join(frames)
    assert "checkpoint 1 of 2" in told
    assert "checkpoint 2 of 2" in told
    shares = [int(found[1]) for frame in frames if (found := re.search(r"(\d+) %", frame))]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert max(share for share, frame in zip(shares, frames, strict=True) if "checkpoint 1 of 2" in frame) <= 60


def test_the_bar_is_there_before_torch_is_loaded(tmp_path: Path) -> None:
    """A torch of ours tells when it is loaded; it comes first on the path."""
    (tmp_path / "torch.py").write_text(
        "import sys\nsys.stderr.write('TORCH\\n')\nsys.stderr.flush()\nraise ImportError('none')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    shown = on_terminal(None, "train", "--steps", 1, columns=80, PYTHONPATH=path)
    assert shown.raw.index("preparing") < shown.raw.index("TORCH")
    assert shown.exit_code == 1
    assert is_clean(shown)


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["table", "json"])
def test_ctrl_c_leaves_the_terminal_clean(machine: Machine, words: list[str], tiny: list[str], tmp_path: Path) -> None:
    def is_training(written: str) -> bool:
        return "updates" in written and (tmp_path / "sgd" / "metrics.jsonl").exists()

    shown = on_terminal(machine, "train", *tiny, *LONG, "--out", tmp_path, *words, columns=80, interrupt=is_training)
    assert shown.exit_code == 130
    assert shown.stdout == ""
    assert is_clean(shown)
    lines = [line for line in shown.screen.text().splitlines() if not line.startswith("warning: ")]
    assert lines[0].startswith("error: Interrupted")
    command = "\n".join(lines).partition("hint: Continue with:")[2].replace("\\\n", "")  # A shell reads folded lines as one.
    assert shlex.split(command) == ["sharpcli", "train", "--resume", str(tmp_path / "sgd")]


def test_ctrl_c_in_the_first_moment_leaves_the_terminal_clean() -> None:
    shown = on_terminal(None, "train", columns=80, interrupt=lambda written: "preparing" in written)
    assert shown.exit_code == 130
    assert is_clean(shown)
    assert shown.screen.text().startswith("error: Interrupted")


def test_errors_and_warnings_leave_the_terminal_clean(machine: Machine, tiny: list[str], large: Path, tmp_path: Path) -> None:
    refused = on_terminal(
        machine, "train", *tiny, "--lr", 1e30, "--steps", 50, "--eval-every", 1, "--out", tmp_path, columns=80
    )
    assert refused.exit_code == 4
    assert is_clean(refused)
    assert refused.screen.text().startswith("error: Training 'sgd' diverged")
    warned = on_terminal(machine, "compare", large / "sgd", large / "sgd", columns=80)
    assert warned.exit_code == 0
    assert is_clean(warned)
    told = " ".join(warned.screen.text().split())
    assert "warning: Some of the checkpoints contain the same weights." in told


NOISY = """import sys
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.passes = nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), 0
    def forward(self, inputs):
        self.passes += 1
        if self.passes % 200 == 0:
            print("seen", self.passes)
            print("and", self.passes, file=sys.stderr)
        return self.layers(inputs)
"""


def test_what_a_model_prints_stands_above_the_bar(machine: Machine, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NOISY)
    words = ["--model", f"{tmp_path / 'net.py'}:Net", "--data", f"npz:{data_file}", "--steps", 600, "--batch-size", 16]
    shown = on_terminal(machine, "train", *words, "--out", tmp_path / "run", "--json", columns=80)
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["command"] == "train"
    assert is_clean(shown)
    lines = [line for line in shown.screen.text().splitlines() if not line.startswith("warning: ")]
    assert lines[:4] == ["seen 200", "and 200", "seen 400", "and 400"]


def test_quiet_shows_nothing_on_a_terminal(machine: Machine, large: Path) -> None:
    assert on_terminal(machine, "hessian", large / "sgd", "--topk", 1, "--quiet", columns=80).raw == ""


def test_a_terminal_that_can_do_nothing_gets_lines(machine: Machine, large: Path) -> None:
    shown = on_terminal(machine, "hessian", large / "sgd", "--topk", 1, columns=80, TERM="dumb")
    assert "\x1b" not in shown.raw
    assert BAR not in shown.raw


@pytest.mark.parametrize("words", thinned([[], ["--json"]]), ids=["table", "json"])
def test_a_pipe_gets_a_line_for_an_evaluation(machine: Machine, words: list[str], tiny: list[str], tmp_path: Path) -> None:
    """They are at least a second apart, so the run goes on until there are two."""
    told = machine.folder / "signs"
    told.unlink(missing_ok=True)

    def signs() -> list[str]:
        return [line for line in told.read_text().splitlines(keepends=True) if line.startswith("progress: ")]

    answer = machine.stopped(
        lambda: len(signs()) > 1, "train", *tiny, *LONG, "--out", tmp_path, *words, stderr=str(told), FORCE_COLOR=""
    )
    assert (answer.exit_code, answer.stdout) == (130, "")
    assert "\x1b" not in answer.stderr
    first = [sign.rstrip("\n") for sign in signs()[:2]]
    for sign in first:
        assert SIGNS.match(sign), sign
        for word in ("train sgd", "of 1000000 updates", "train loss", "test loss", "lr"):
            assert word in sign
    steps = [int(re.search(r"(\d+) of 1000000", sign)[1]) for sign in first]  # type: ignore[index]
    assert steps[0] < steps[1]
    assert all(step % 500 == 0 for step in steps)


def test_colours_that_are_forced_make_no_terminal_of_a_pipe(machine: Machine, large: Path) -> None:
    """As on build servers: codes that move the cursor would fill the log."""
    answer = machine("hessian", large / "sgd", "--topk", 1, FORCE_COLOR="1")
    assert (answer.exit_code, answer.stderr) == (0, "")
