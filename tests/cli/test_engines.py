"""How products come about, as a user says and sees it: --engine, --compile, and --verbose, which tells what was chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpcli.cli.app import app
from sharpcli.curvature import planner
from tests.cli.test_hessian import values, without
from tests.contracts.test_json import read
from tests.curvature.test_engines import FORWARD, WORDS, graphs, patched
from tests.lanes import crossed, slow

Run = Callable[..., Any]
__all__ = ["graphs"]  # A fixture.


@pytest.fixture(scope="module")
def answers(sharpcli: Run, final: Path) -> Callable[..., dict[str, Any]]:
    def answer(*words: object) -> dict[str, Any]:
        found = sharpcli("hessian", final, "--topk", 3, *words, "--json")
        assert found.exit_code == 0, found.stderr
        return read(found.stdout)

    return answer


@pytest.fixture(scope="module")
def usual(answers: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return answers()["result"]


def engine_of(document: dict[str, Any]) -> str:
    return document["result"]["conditions"]["engine"]


@pytest.mark.parametrize("engine", [*WORDS, "auto"])
def test_every_engine_gives_the_same_eigenvalues_and_is_named(answers: Any, usual: dict[str, Any], engine: str):
    found = answers("--engine", engine)
    assert values(found["result"]) == pytest.approx(values(usual), rel=1e-5)
    assert [one["verdict"] for one in found["result"]["eigenvalues"]] == ["certified"] * 3
    assert found["warnings"] == []
    assert found["settings"]["engine"] == engine
    said = engine_of(found)
    kept = "" if engine == FORWARD else ", graphs kept for 1 of 1 chunks"
    checked = engine not in ("double-backward", "auto")
    assert said.startswith(WORDS.get(engine, "double backward") + ", verified against double backward to " * checked)
    assert said.endswith(kept)


@pytest.mark.parametrize(
    ("operator", "engine"), crossed(["ggn", "fisher", "empirical-fisher"], ["double-backward", "fused", "auto"])
)
def test_the_other_operators_have_fused_products_too(answers: Any, operator: str, engine: str):
    found = answers("--operator", operator, "--engine", engine)
    assert values(found["result"]) == pytest.approx(values(answers("--operator", operator)["result"]), rel=1e-5)
    words = ["fused "] * (engine == "fused") + ["Jacobian products by double backward"]
    assert engine_of(found).startswith("".join(words))


@pytest.mark.parametrize(
    ("words", "name", "compilations"),
    [
        ("--engine forward-over-reverse", "forward over reverse", 0),
        ("--engine forward-over-reverse --compile off", "forward over reverse", 0),
        slow("--engine forward-over-reverse --compile on", "forward over reverse, compiled", 1),
        ("--compile on", "forward over reverse, compiled", 1),
        slow("--engine linearize --compile on", "linearized gradient, compiled", 2),
    ],
)
def test_what_is_to_be_compiled_is(
    answers: Any, usual: dict[str, Any], graphs: list[int], words: str, name: str, compilations: int
):
    found = answers(*words.split())
    assert values(found["result"]) == pytest.approx(values(usual), rel=1e-5)
    assert engine_of(found).startswith(f"{name}, verified against double backward to ")
    assert found["warnings"] == []
    assert len(graphs) == compilations


@pytest.mark.parametrize("engine", ["fused", FORWARD])
def test_all_that_can_be_asked_for_goes_by_any_engine(answers: Any, engine: str):
    more = ["--per-layer", "--trace", "--bottomk", 1]
    one, other = (answers("--engine", name, *more)["result"] for name in ("double-backward", engine))
    assert values(one) == pytest.approx(values(other), rel=1e-4)
    assert one["moments"]["trace"]["value"] == pytest.approx(other["moments"]["trace"]["value"], rel=1e-3)
    for mine, theirs in zip(one["layers"], other["layers"], strict=True):
        assert mine["lambda_max"] == pytest.approx(theirs["lambda_max"], rel=1e-4)


def test_a_wrong_engine_is_warned_of(answers: Any, usual: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    patched(monkeypatch, lambda right, _: lambda *given: {key: 1.1 * part for key, part in right(*given).items()})
    found = answers("--engine", FORWARD)
    assert found["warnings"] == ["The engine forward over reverse was off by 0.1; double backward is used instead."]
    assert engine_of(found).endswith("(forward over reverse was off by 0.1)")
    assert found["result"]["eigenvalues"] == usual["eigenvalues"]


# Notes.


PLAIN = "note: About "


@pytest.mark.parametrize("word", ["--verbose", "-v"])
def test_notes_go_to_stderr_and_nothing_else_changes(sharpcli: Run, final: Path, word: str):
    line = ["hessian", final, "--topk", 2, "--json"]
    silent, said = sharpcli(*line), sharpcli(*line, word)
    assert silent.stderr == ""
    (note,) = said.stderr.splitlines()
    assert note.startswith(PLAIN)
    assert note.endswith(" s of products: the default engine, double-backward, with 60 samples per pass.")
    documents = [without(json.loads(answer.stdout), "seconds", "provenance") for answer in (silent, said)]
    assert documents[0] == documents[1]
    assert documents[0]["warnings"] == []


def test_tables_hold_no_notes(sharpcli: Run, final: Path):
    said = sharpcli("hessian", final, "--topk", 2, "-v")
    assert "note" not in said.stdout
    assert said.stderr.startswith(PLAIN)


@pytest.mark.parametrize("words", ["--quiet --verbose", "-v -q"])
def test_quiet_wins(sharpcli: Run, final: Path, words: str):
    said = sharpcli("hessian", final, "--topk", 2, *words.split())
    assert said.exit_code == 0
    assert said.stderr == ""
    assert said.stdout


@pytest.mark.parametrize("engine", WORDS)
def test_what_was_asked_for_is_noted(sharpcli: Run, final: Path, engine: str):
    said = sharpcli("hessian", final, "--topk", 1, "--engine", engine, "-v")
    assert said.stderr == f"note: The engine {engine} was requested.\n"


def test_checkpoints_of_one_shape_are_planned_once(sharpcli: Run, runs: Path):
    folders = [runs / mode for mode in ("sgd", "largebatch", "fullbatch")]
    for line in (
        ["hessian", *folders, "--topk", 1],
        ["compare", *folders],
        ["hessian", runs / "sgd", "--along-run", "--topk", 1],
    ):
        said = sharpcli(*line, "-v")
        assert said.exit_code == 0, said.stderr
        assert [note.startswith(PLAIN) for note in said.stderr.splitlines() if note.startswith("note: ")] == [True]
    both = sharpcli("hessian", folders[0], "--split", "both", "--topk", 1, "-v")
    assert both.stderr.count(PLAIN) == 2  # Splits are of different sizes.


def test_what_was_measured_is_noted(sharpcli: Run, final: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "_SHORT", 0)
    said = sharpcli("hessian", final, "--topk", 2, "-v")
    assert said.exit_code == 0
    assert said.stderr.startswith("note: double-backward: ") or said.stderr.startswith("note: fused: ")
    assert all(line.startswith("note: ") for line in said.stderr.splitlines())


def test_warnings_are_not_notes(sharpcli: Run, final: Path, monkeypatch: pytest.MonkeyPatch):
    patched(monkeypatch, lambda right, _: lambda *given: {key: 1.1 * part for key, part in right(*given).items()})
    line = ["hessian", final, "--topk", 1, "--engine", FORWARD]
    warned, both, quiet = (sharpcli(*line, *words) for words in ([], ["-v"], ["-q"]))
    warning = "warning: The engine forward over reverse was off by 0.1; double backward is used instead.\n"
    assert warned.stderr == warning
    assert both.stderr == f"note: The engine {FORWARD} was requested.\n{warning}"
    assert quiet.stderr == ""


def test_every_command_can_be_verbose(sharpcli: Run):
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert "--verbose" in sharpcli(name, "--help", COLUMNS="200").stdout, name


def test_in_a_process_of_its_own(new_process: Run, final: Path):
    said = new_process("hessian", final, "--topk", 1, "--json", "--engine", "fused", "-v")
    assert said.exit_code == 0
    assert json.loads(said.stdout)["result"]["conditions"]["engine"].startswith("fused double backward, verified")
    assert said.stderr == "note: The engine fused was requested.\n"
