"""A process that dies, stops or fails ends the run with one message, and the state continues with any number of processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.many.agreement import differences
from tests.processes import Answer, Machine

Run = Callable[..., Answer]
Start = Callable[..., list[int]]

pytestmark = pytest.mark.slow

SEARCH = ["hessian", "sgd/final.pt", "--topk", 30, "--certify", "all", "--dtype", "float64"]


def steps_in(state: Path) -> int:
    return sum(path.stat().st_size for path in state.glob("basis-*.raw"))


def until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 50
    while not happens() and time.monotonic() < end:
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("which", "by", "code", "said"),
    [
        (1, signal.SIGKILL, 6, "Another process of this run has ended"),
        (1, signal.SIGSTOP, 6, "Another process of this run has ended"),
        (0, signal.SIGINT, 130, "Interrupted"),
        (0, signal.SIGTERM, 143, "Ended by SIGTERM"),
    ],
)
def test_the_state_of_an_ended_run_continues_with_other_numbers_of_processes(
    which: int,
    by: signal.Signals,
    code: int,
    said: str,
    start: Start,
    run: Run,
    runs: Path,
    machines: list[Machine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(runs)
    state = tmp_path / "state"
    numbers = start(2, *SEARCH, "--state", state, "--json", SHARPCLI_PROCESS_TIMEOUT="3")
    until(lambda: steps_in(state) > 3000)
    os.kill(numbers[which], by)
    began = time.monotonic()
    first = machines[0].end()
    assert time.monotonic() - began < 20
    if by == signal.SIGSTOP:
        os.kill(numbers[1], signal.SIGCONT)
    follower = machines[1].end()
    assert (first.exit_code, first.stdout) == (code, "")
    assert said in first.stderr
    assert f"state is saved in {state}" in first.stderr
    assert (follower.stdout, follower.stderr) == ("", "")
    before = steps_in(state)
    assert before > 3000
    whole = run(1, *SEARCH, "--json", "--state", tmp_path / "whole")
    for count in (3, 1) if by == signal.SIGKILL else (1,):
        resumed = run(count, *SEARCH, "--state", state, "--json")
        assert resumed.exit_code == 0, resumed.stderr
        attempts = ("products", "index_probability")  # Rounding decides how many attempts to confirm an index takes.
        assert differences(whole.stdout.replace("/whole", "/state"), resumed.stdout, 1e-6, but_for=attempts) == []
        assert steps_in(state) >= before


def test_the_first_process_shows_what_another_one_reports(run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    answer = run(2, "hessian", "sgd/final.pt", "--topk", 2, own={1: ["--data", "npz:missing.npz"]})
    assert (answer.exit_code, answer.stdout) == (6, "")
    assert "error: Process 1 has failed: " in answer.stderr
    assert "missing.npz" in answer.stderr


def test_processes_with_other_numbers_are_stopped(run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    answer = run(3, "hessian", "sgd/final.pt", "--topk", 2, own={2: ["--seed", 1]})
    assert (answer.exit_code, answer.stdout) == (6, "")
    assert "computed different numbers" in answer.stderr


def test_an_error_of_all_processes_is_said_once(run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    answer = run(2, "hessian", "missing.pt")
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert answer.stderr.count("error:") == 1


def test_what_is_computed_is_shown_if_a_later_part_fails(
    run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(runs)
    bad = tmp_path / "bad.pt"
    bad.write_text("text")
    one, two = (run(count, "hessian", "sgd/final.pt", bad, "--topk", 1, "--json") for count in (1, 2))
    assert one.exit_code == two.exit_code == 3
    assert '"incomplete"' in two.stdout
    assert differences(one.stdout, two.stdout, 1e-6) == []


def test_a_process_that_is_alone_says_how_to_run_alone(start: Start, machines: list[Machine], runs: Path) -> None:
    machine = machines[0]
    place = {"RANK": "0", "WORLD_SIZE": "two", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    answer = machine("hessian", "sgd/final.pt", cwd=runs, **place)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "remove WORLD_SIZE from the environment" in answer.stderr
