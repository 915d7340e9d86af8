"""Streams that are closed, full or broken, and surroundings of no use: one sentence or a normal answer, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lanes import thinned
from tests.machine.conftest import sentence_and_hint
from tests.processes import Answer, Machine


def shell(line: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line whose streams a shell redirects; $@ stands for it."""
    command = [sys.executable, "-m", "sharpcli", *map(str, words)]
    return subprocess.run(
        ["bash", "-c", line, "bash", *command],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("words", [["--version"], ["hessian", "--help"], ["inspect", "{final}"]], ids=lambda words: words[0])
def test_a_closed_stdout_is_told_before_the_work(words: list[str], final: Path) -> None:
    done = shell('"$@" >&-', *(word.format(final=final) for word in words))
    sentence_and_hint(Answer(done.returncode, done.stdout, done.stderr), 3)
    assert "stdout is closed" in done.stderr
    silent = shell('"$@" >&- 2>&-', *(word.format(final=final) for word in words))
    assert (silent.returncode, silent.stdout, silent.stderr) == (3, "", "")


@pytest.mark.slow
def test_closed_stdin_and_stderr_change_nothing(final: Path) -> None:
    done = shell('"$@" <&- 2>&-', "inspect", final)
    assert done.returncode == 0
    assert "This file can be analysed." in done.stdout


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_command_silently(final: Path) -> None:
    for words in (["inspect", final, "--json"], ["hessian", "--help"]):
        done = shell('"$@" | true; exit ${PIPESTATUS[0]}', *words)
        assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_a_full_disk_behind_stdout_is_told(options: list[str], machine: Machine, final: Path) -> None:
    answer = machine("inspect", final, *options, stdout="/dev/full")
    sentence_and_hint(answer, 3)
    assert "Cannot write the results to stdout: No space left on device" in answer.stderr


def test_a_full_disk_behind_stdout_of_help_is_told() -> None:
    done = shell('"$@" >/dev/full', "hessian", "--help")
    sentence_and_hint(Answer(done.returncode, done.stdout, done.stderr), 3)


def test_a_full_disk_behind_stderr_loses_messages_only(machine: Machine, final: Path, tmp_path: Path) -> None:
    answer = machine("hessian", final, "--topk", 1, "--verbose", "--plot", tmp_path / "p.png", stderr="/dev/full")
    assert answer.exit_code == 0
    assert "certified" in answer.stdout
    assert (tmp_path / "p.png").is_file()


@pytest.mark.parametrize("columns", thinned(["0", "-1", "1", "wide", "", "9" * 30, "²"], 3))
def test_a_width_of_no_use_is_no_width(columns: str, machine: Machine, final: Path) -> None:
    plain, other = (machine("inspect", final, **more).stdout.splitlines() for more in ({}, {"COLUMNS": columns}))
    assert other[:-2] == plain[:-2]  # The last line estimates seconds.
    assert len(other[-2]) > 100
    answer = machine("inspect", "--help", COLUMNS=columns, TERMINAL_WIDTH=columns)
    assert answer.exit_code == 0, answer.stderr
    assert "--json" in answer.stdout


@pytest.mark.slow
def test_surroundings_without_letters_and_terminal(machine: Machine, final: Path, tmp_path: Path) -> None:
    """An ASCII locale, no TERM, no HOME that exists, and a file of matplotlib's in the working folder that is no text."""
    (tmp_path / "matplotlibrc").write_bytes(b"text.usetex: True\nfigure.facecolor: red\n\xff\xfe")
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "", "HOME": "/nonexistent"}
    done = shell(f'cd "{tmp_path}"; "$@"', "hessian", final, "--topk", 1, "--plot", "p.png", **plain)
    assert done.returncode == 0, done.stderr
    assert "certified" in done.stdout
    (tmp_path / "other").mkdir()
    usual = machine("hessian", final, "--topk", 1, "--plot", "p.png", cwd=tmp_path / "other")
    assert usual.exit_code == 0, usual.stderr
    assert (tmp_path / "p.png").read_bytes() == (tmp_path / "other" / "p.png").read_bytes()


def test_too_little_memory_is_one_sentence(
    machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    """The address space of the process may not grow by as much as the model asks for."""
    words = own_model(called="if torch.is_grad_enabled(): torch.empty(10**12)")
    for command, given, absent in (
        ("hessian", [final], "--subspace"),
        ("sharpness", [final], "--memory"),
        ("train", ["--steps", 1, "--out", tmp_path / "run"], "--samples"),
    ):
        answer = machine(command, *given, *words, limits={"RLIMIT_AS": 40 * 2**30})
        sentence_and_hint(answer, 3)
        assert "There is not enough memory." in answer.stderr
        assert "--chunk-size" in answer.stderr
        assert absent not in answer.stderr


def test_libraries_that_find_no_memory_are_one_sentence(final: Path) -> None:
    done = shell('ulimit -v 900000; "$@"', "hessian", final)
    sentence_and_hint(Answer(done.returncode, done.stdout, done.stderr), 3)
    assert "There is not enough memory." in done.stderr


def test_a_working_folder_that_was_removed_is_told(final: Path, tmp_path: Path) -> None:
    done = shell(f'mkdir "{tmp_path}/gone"; cd "{tmp_path}/gone"; rmdir "$PWD"; "$@"', "inspect", final)
    sentence_and_hint(Answer(done.returncode, done.stdout, done.stderr), 3)
    assert "working folder" in done.stderr
