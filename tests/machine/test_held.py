"""One process works on a folder at a time, a signal leaves what was done, and what is taken up is what was left."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sharpcli import checkpoints, files
from sharpcli.errors import InputError, Stopped
from sharpcli.training.interrupt import deferred
from tests.lanes import crossed, thinned
from tests.machine.conftest import sentence_and_hint
from tests.processes import Machine

SLOW = "if CALLS[0] > 60: import time; time.sleep(0.05)"  # The door has been passed then.


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.005)


def lines(command: str, final: Path, state: Path) -> tuple[list[object], Path, Path]:
    """Return a long command line with something that is kept, the file that shows that it is, and its lock."""
    if command == "train":
        return ["train", "--steps", 300, "--eval-every", 1, "--out", state], state / "sgd/metrics.jsonl", state / "sgd/.lock"
    if command == "surface":
        return ["surface", final, "--points", 61, "--state", state], state, state.with_name(f".{state.name}.lock")
    words = ["hessian", final, "--topk", 30, "--engine", "forward-over-reverse", "--state", state]
    return words, state / "search.pt", state / ".lock"


COMMANDS = ("train", "surface", "hessian")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_second_process_is_told_who_works_there(
    command: str, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    words, _, lock = lines(command, final, tmp_path / "state")
    with files.held(lock.parent if command != "surface" else tmp_path / "state", "--state", folder=command != "surface"):
        about = json.loads(lock.read_text())
        answer = machine(*words, *own_model())
        sentence_and_hint(answer, 3)
        assert answer.stdout == ""
        assert f"in use by process {os.getpid()} on {about['host']}, since {about['since']}" in answer.stderr
        assert {path.name for path in lock.parent.iterdir()} <= {lock.name, "net.py"}
    assert not lock.exists()


@pytest.mark.parametrize("command", thinned(COMMANDS))
def test_a_lock_of_a_process_that_was_killed_is_taken_over(
    command: str, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    words, shown, lock = lines(command, final, tmp_path / "state")
    process = machine.start(*words, *own_model(called=SLOW))
    wait_for(shown)
    os.kill(process, signal.SIGKILL)
    assert machine.end().exit_code == -signal.SIGKILL
    assert json.loads(lock.read_text())["process"] == process
    answer = machine(*words, *own_model(), *(["--resume"] if command == "train" else []))
    assert answer.exit_code == 0, answer.stderr
    assert not lock.exists()


@pytest.mark.parametrize(("number", "command"), crossed([signal.SIGTERM, signal.SIGHUP, signal.SIGINT], COMMANDS))
def test_a_signal_tells_how_to_go_on(
    command: str, number: signal.Signals, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    words, shown, lock = lines(command, final, tmp_path / "state")
    process = machine.start(*words, *own_model(called=SLOW))
    wait_for(shown)
    os.kill(process, number)
    answer = machine.end()
    sentence_and_hint(answer, 128 + number)
    assert answer.stdout == ""
    assert number.name in answer.stderr or number == signal.SIGINT
    assert "--resume" in answer.stderr if command == "train" else "the same command continues" in answer.stderr
    assert shown.exists()
    assert not lock.exists()
    if command == "train":
        assert (tmp_path / "state" / "sgd" / "last.pt").exists()


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupt.check()
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Stopped) as stopped:
                interrupt.check()
        assert stopped.value.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_locks_of_one_process_exclude_each_other_and_leave_nothing(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    told = pytest.raises(InputError, match=f"process {os.getpid()} ")
    with files.held(place, "--state", folder=True), told, files.held(place, "--state", folder=True):
        pass
    assert list(tmp_path.iterdir()) == []
    place.mkdir(parents=True)
    (place / ".lock").write_text("of a process that has died")
    (place / ".final.pt.abc.part").write_text("half of a file")
    with files.held(place, "--state", folder=True):
        (place / "kept").touch()
    assert [path.name for path in place.iterdir()] == ["kept"]


@pytest.mark.slow
def test_resume_compares_the_initial_weights_with_their_hash(machine: Machine, tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "--steps", 600, "--eval-every", 1, "--out", tmp_path]
    process = machine.start("train", *words)
    wait_for(tmp_path / "sgd" / "metrics.jsonl")
    os.kill(process, signal.SIGINT)
    assert machine.end().exit_code == 130
    init = tmp_path / "sgd" / "init.pt"
    right, sound = init.read_bytes(), checkpoints.read(init)
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in sound.state.items()}
    checkpoints.write(init, other, sound.metadata)
    refused = machine("train", *words, "--resume")
    sentence_and_hint(refused, 3)
    assert "init.pt does not contain the initial weights of the run" in refused.stderr
    init.unlink()
    answer = machine("train", *words, "--resume")
    assert answer.exit_code == 0, answer.stderr
    assert init.read_bytes() == right
    assert torch.load(tmp_path / "sgd" / "final.pt", weights_only=True)["metadata"]["step"] == 600


def test_what_a_killed_process_has_left_of_one_file_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in (".state.abc.part", ".other.abc.part", "state", ".state.abc"):
        (tmp_path / name).touch()
    with files.held(tmp_path / "state", "--state", folder=False):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".other.abc.part", "state", ".state.abc"}
