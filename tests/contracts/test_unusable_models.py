"""Every command that calls a model refuses one whose loss is no function of the weights, with the same reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpcli.cli.app import app
from tests.lanes import crossed

CASES = Path(__file__).parents[1] / "cases"
REASONS = {
    "fdropout": "draws random numbers in eval mode",
    "stateful": "keeps a state between calls",
    "fbn": "Samples depend on each other",
    "embmax": "changes its weights in forward",
}
# {a} is a checkpoint of the model, {out} a place to write to; each line as a user would type it.
LINES = [
    "hessian {a}",
    "hessian {a} --operator ggn --topk 1",
    "hessian {a} --topk 0 --trace",
    "hessian {a} --engine difference",
    "hessian {a} --samples 10 --split both",
    "compare {a} {a}",
    "compare {a} --metrics distance",
    "sharpness {a}",
    "sharpness {a} --measure all",
    "sharpness {a} --measure average-case",
    "interpolate {a} {a} --points 3",
    "interpolate {a} {a} --points 3 --align",
    "interpolate {a} {a} --points 3 --path bezier",
    "interpolate {a} {a} --points 3 --bn eval",
    "surface {a} --points 3",
    "surface {a} --points 3 --axes eigen",
    "reparam {a} {out}",
    "train --steps 2 --out {out}",
    "train --steps 2 --out {out} --track-sharpness 1",
    "train --mode fullbatch --steps 2 --out {out}",
]
WITHOUT_A_MODEL = {"distance", "doctor"}
ALONG_RUNS = {"watch"}  # It needs a run folder, and opens each step as `compare` does.


def test_every_command_is_here():
    assert {line.split()[0] for line in LINES} | WITHOUT_A_MODEL | ALONG_RUNS | {"inspect"} == {
        one.name for one in app.registered_commands
    }


@pytest.mark.parametrize(("line", "case"), crossed(LINES, REASONS))
def test_every_command_refuses_it(case: str, line: str, sharpcli: Callable[..., Any], tmp_path: Path):
    folder, out = CASES / case, tmp_path / "out"
    words = line.format(a=folder / "ck.pt", out=out).split()
    answer = sharpcli(*words, "--model", f"{folder / 'net.py'}:make", "--data", f"npz:{folder / 'd.npz'}")
    assert answer.exit_code == 3, answer.stderr
    assert answer.stdout == ""
    assert REASONS[case] in " ".join(answer.stderr.split())
    assert not out.exists()


@pytest.mark.parametrize("case", REASONS)
def test_inspect_says_it_as_a_check(case: str, sharpcli: Callable[..., Any]):
    folder = CASES / case
    words = ["inspect", folder / "ck.pt", "--model", f"{folder / 'net.py'}:make", "--data", f"npz:{folder / 'd.npz'}", "--json"]
    answer = sharpcli(*words)
    result = json.loads(answer.stdout)["result"]
    assert not result["analysable"]
    assert any(REASONS[case] in check["detail"] and check["passed"] is False for check in result["checks"])
