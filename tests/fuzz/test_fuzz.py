"""No damaged file gets past the doors: some are tried always, ten thousand with `make test-long` or `python -m tests.fuzz`."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy
import pytest

from tests.fuzz import breaking, running
from tests.fuzz.kinds import Kind
from tests.fuzz.material import Material
from tests.fuzz.running import Report, run
from tests.processes import Answer

QUICK, WHOLE = 250, 10_000


@pytest.mark.parametrize(("seed", "count"), [(0, QUICK), pytest.param(0, WHOLE, marks=pytest.mark.long)])
def test_every_damaged_file_is_answered_or_refused(seed: int, count: int) -> None:
    report = run(seed, range(count))
    assert report.findings == []
    for kind in dict.fromkeys(kind for kind, _ in report.counts):
        assert report.counts[kind, "refused"] > report.counts[kind, "answered"] / 10, report.table()


def fail(error: BaseException) -> Callable[[Path], object]:
    def ask(_: Path) -> object:
        raise error

    return ask


ESCAPES: dict[str, Callable[[Path], object]] = {
    "KeyError": fail(KeyError("metadata")),
    "RecursionError": fail(RecursionError()),
    "MemoryError": fail(MemoryError()),
    "warns": lambda _: warnings.warn("of torch", UserWarning, stacklevel=1),
    "writes": lambda _: sys.__stderr__ and sys.__stderr__.write("from a library\n") and sys.__stderr__.flush(),
    "GiB": lambda _: numpy.ones(2**28),
    "Hang": lambda _: time.sleep(60),
}


@pytest.mark.parametrize("word", [pytest.param(word, marks=pytest.mark.slow) if word == "GiB" else word for word in ESCAPES])
def test_what_neither_answers_nor_refuses_is_told(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a door that lets something through is found."""
    monkeypatch.setattr(running, "_LONGEST", 1 if word == "Hang" else 30)
    monkeypatch.setattr(running, "_MOST", 0.3)
    report = Report()
    running._case(Kind("a kind", lambda *_: "as it is", ESCAPES[word]), Random(0), 7, tmp_path, report, through_line=False)
    assert len(report.findings) == 1
    assert report.findings[0].startswith("a kind 7 (as it is): ")
    assert word in report.findings[0]


SENTENCES = "error: x.pt is damaged or cut short.\nhint: Copy it again.\n"


@pytest.mark.parametrize(
    ("exit_code", "stdout", "stderr", "sound"),
    [
        (3, "", SENTENCES, True),
        (2, "", "warning: The data are others.\n" + SENTENCES, True),
        (1, "", SENTENCES, False),
        (3, "", "error: x.pt does not fit.\n  missing  'a'\nhint: Give the model.\n", True),
        (3, "", "  missing  'a'\n" + SENTENCES, False),
        (3, "{}", SENTENCES, False),
        (3, "", "error: x.pt is damaged or cut short.\n", False),
        (3, "", "UserWarning: of torch\n" + SENTENCES, False),
        (3, "", "error: Internal error: KeyError: 'model'.\nhint: Please report it.\n", False),
    ],
)
def test_a_refusal_of_a_command_is_a_sentence_and_a_hint(exit_code: int, stdout: str, stderr: str, sound: bool) -> None:
    assert running.sound_refusal(Answer(exit_code, stdout, stderr)) is sound


@pytest.mark.parametrize(("stdout", "sound"), [("", True), ("loads  NO: too short\n", True), ("loads  yes\n", False)])
def test_a_refusal_of_inspect_may_print_the_checks(stdout: str, sound: bool) -> None:
    assert running.sound_refusal(Answer(3, stdout, SENTENCES), inspecting=True) is sound


def test_damaged_states_through_the_command_line(tmp_path: Path, sharpcli: Callable[..., Any]) -> None:
    """Of `hessian --state` and `surface --state`: what is answered is what was found before, or it is refused."""
    material = Material(tmp_path / "material")
    lines = {
        "search": ["hessian", material.run / "final.pt", "--topk", 2, "--json", "--state"],
        "surface.pt": ["surface", material.run / "final.pt", "--points", 3, "--json", "--state"],
    }
    breakers = {"search": breaking.search, "surface.pt": breaking.surface}
    for name, line in lines.items():
        sound = tmp_path / f"sound-{name}"
        known, refused = told(sharpcli(*line, sound)), 0
        for number in range(15):
            folder = tmp_path / f"{name} {number}"
            folder.mkdir()
            done = breakers[name](material, Random(f"states:{number}"), folder, source=sound)
            answer = sharpcli(*line, folder / name)
            if answer.exit_code:
                assert running.sound_refusal(answer), (done, answer)
                refused += 1
            else:
                assert told(answer) == pytest.approx(known, rel=1e-4), done
        assert refused > 5


def told(answer: Any) -> list[float]:
    """Return the numbers that a command has found."""
    result = json.loads(answer.stdout)["result"]
    if "loss_at_origin" in result:
        return [value for row in result["loss"] for value in row]
    return [pair["value"] for pair in result["eigenvalues"]]


def test_a_case_can_be_made_again() -> None:
    first, second = (run(3, range(40, 45)) for _ in range(2))
    assert first.counts == second.counts
    assert sum(first.counts.values()) == 5
