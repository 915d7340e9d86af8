"""Every command has the numbers of one process in two and three processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sharpcli.plugins import names
from tests.many.agreement import differences
from tests.processes import Answer

Run = Callable[..., Answer]

pytestmark = pytest.mark.slow

# The chains of the local learning coefficient are short here: each of their many passes is a sum over processes.
SHORT = "local-learning-coefficient:chains=2,steps=30,burn_in=5,step_size=1e-6"
NAMED = [name if name != "local-learning-coefficient" else SHORT for name in names("measures")]
MEASURES = [word for name in NAMED for word in ("--measure", name)]
COMMANDS = {
    "hessian": ["hessian", "sgd/final.pt", "--topk", 3, "--samples", 41],
    "hessian, everything": [
        *("hessian", "sgd/final.pt", "--topk", 2, "--bottomk", 1, "--trace", "--density", "--per-layer", "--ggn-split"),
        *("--dtype", "float64"),
    ],
    "hessian of two samples": ["hessian", "sgd/final.pt", "--topk", 2, "--samples", 2],
    "hessian by differences": ["hessian", "sgd/final.pt", "--topk", 2, "--engine", "difference"],
    "fisher": ["hessian", "sgd/final.pt", "--topk", 2, "--operator", "fisher", "--split", "test"],
    "sharpness": ["sharpness", "sgd/final.pt", "--samples", 50],
    "all measures": ["sharpness", "sgd/final.pt", *MEASURES, "--samples", 50],
    "interpolate": ["interpolate", "sgd/final.pt", "fullbatch/final.pt", "--points", 5],
    "interpolate, bezier": ["interpolate", "sgd/final.pt", "fullbatch/final.pt", "--points", 3, "--path", "bezier"],
    "surface": ["surface", "sgd/final.pt", "--points", 3],
    "compare": ["compare", "sgd/final.pt", "fullbatch/final.pt"],
    "distance": ["distance", "sgd/final.pt", "fullbatch/final.pt"],
    "inspect": ["inspect", "sgd/final.pt"],
}


# A search for a maximum ends at another place if a rounding error differs.
LOOSE = {"sharpness": 1e-4, "all measures": 2e-3}


@pytest.mark.parametrize("name", COMMANDS)
def test_several_processes_have_the_numbers_of_one(name: str, run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    one = run(1, *COMMANDS[name], "--json")
    assert one.exit_code == 0, one.stderr
    for count in (2, 3) if name in ("hessian", "compare") else (3,):
        several = run(count, *COMMANDS[name], "--json")
        assert several.exit_code == 0, several.stderr
        assert differences(one.stdout, several.stdout, LOOSE.get(name, 1e-6)) == []
        assert f'"processes": {count}' in several.stdout


UPDATE = ["sharpness", "--measure", "critical-sharpness:direction=optimizer", "--measure", "critical-sharpness"]


@pytest.mark.parametrize("words", [["hessian", "--operator", "preconditioned", "--topk", 2], UPDATE])
def test_what_rests_on_the_state_of_an_optimizer_is_the_same(words: list[object], run: Run, adam: Path) -> None:
    one, several = (run(count, *words, adam, "--json") for count in (1, 3))
    assert (one.exit_code, several.exit_code) == (0, 0), several.stderr
    assert differences(one.stdout, several.stdout, 2e-3 if words[0] == "sharpness" else 1e-6) == []
