"""Runs that are finished, were interrupted or diverged: every command says the same, and `--resume` needs no other word."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lanes import thinned
from tests.processes import Machine
from tests.states import change_state

Run = Callable[..., Any]
SETTINGS = ["--batch-size", 16, "--eval-every", 100, "--average", "ema:0.9", "--seed", 3]
STEPS = 3000


def interrupt(machine: Machine, folder: Path, *words: object, cwd: Path | None = None) -> str:
    """Press Ctrl-C on a training once it was evaluated; give back what it said."""
    answer = machine.stopped((folder / "metrics.jsonl").exists, "train", *words, cwd=cwd)
    assert answer.exit_code == 130, answer.stderr
    return answer.stderr


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, machine: Machine, tiny: list[str]) -> tuple[Path, str]:
    """Interrupt a run; give back its folder and what it said; not to be written to."""
    folder = tmp_path_factory.mktemp("interrupted runs") / "two words"
    words = [*tiny, "--steps", STEPS, *SETTINGS, "--save-every", 50, "--out", folder]
    return folder / "sgd", interrupt(machine, folder / "sgd", *words)


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory, sharpcli: Run, tiny: list[str]) -> Path:
    out = tmp_path_factory.mktemp("diverged")
    answer = sharpcli("train", *tiny, "--lr", 1e6, "--steps", 50, "--batch-size", 60, "--eval-every", 1, "--out", out)
    assert answer.exit_code == 4
    return out / "sgd"


def asked(sharpcli: Run, *words: object) -> dict[str, Any]:
    answer = sharpcli(*words, "--json")
    assert answer.exit_code == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)["result"]
    return result


def command_in(stderr: str) -> list[str]:
    """Return the words of the command that a hint ends with, as a shell would read them."""
    program, *words = shlex.split(stderr.partition("hint: Continue with:")[2].replace("\\\n", ""))  # It may be folded.
    assert program == "sharpcli"
    return words


def test_an_interrupted_run_says_where_and_how_to_go_on(interrupted: tuple[Path, str], sharpcli: Run) -> None:
    folder, stderr = interrupted
    step = torch.load(folder / "last.pt", weights_only=True)["updates"]
    (row,) = asked(sharpcli, "inspect", folder)["rows"]
    assert (row["state"], row["step"], row["steps"]) == ("interrupted", step, STEPS)
    assert shlex.split(row["go_on"])[1:] == command_in(stderr)
    shown = sharpcli("inspect", folder).stdout
    assert f"interrupted at update {step} of {STEPS}" in shown
    assert f"  {row['go_on']}" in shown.splitlines()
    assert row["checkpoint"] == str(folder / f"step-{row['checkpoint_step']}.pt")
    assert asked(sharpcli, "hessian", row["checkpoint"], "--topk", 1)["checkpoint"]["step"] == row["checkpoint_step"]


COMMANDS = [
    "hessian {}",
    "sharpness {}",
    "distance {}",
    "compare {}",
    "interpolate {} {}",
    "surface {}",
    "reparam {} {}/new.pt",
]


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.parametrize("state", ["interrupted", "diverged"])
def test_every_command_says_the_same_of_a_run_without_final_weights(
    state: str, line: str, interrupted: tuple[Path, str], diverged: Path, sharpcli: Run
) -> None:
    folder = interrupted[0] if state == "interrupted" else diverged
    (row,) = asked(sharpcli, "inspect", folder)["rows"]
    answer = sharpcli(*(word.replace("{}", str(folder)) for word in line.split()))
    assert answer.exit_code == 3
    assert answer.stdout == ""
    error, hint = answer.stderr.splitlines()
    assert error == f"error: {row['sentence']}"
    if state == "interrupted":
        assert hint == f"hint: Continue with: {row['go_on']}"
    else:
        assert str(folder / "last-good.pt") in hint


@pytest.mark.slow
def test_the_printed_line_goes_on_to_the_same_bytes(
    interrupted: tuple[Path, str], sharpcli: Run, tiny: list[str], tmp_path: Path
) -> None:
    """In a copy, so that the path in the line is replaced; everything else is typed as it was printed."""
    folder, stderr = interrupted
    shutil.copytree(folder.parent, tmp_path / "resumed")
    words = [word.replace(str(folder), str(tmp_path / "resumed" / "sgd")) for word in command_in(stderr)]
    assert words == ["train", "--resume", str(tmp_path / "resumed" / "sgd")]
    done = sharpcli(*words)
    assert done.exit_code == 0, done.stderr
    whole = sharpcli("train", *tiny, "--steps", STEPS, *SETTINGS, "--save-every", 50, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.stderr
    for name in ("final.pt", "ema.pt", "init.pt", "step-3000.pt"):
        assert (tmp_path / "resumed" / "sgd" / name).read_bytes() == (tmp_path / "whole" / "sgd" / name).read_bytes()
    assert asked(sharpcli, "inspect", tmp_path / "resumed" / "sgd")["run"]["state"] == "finished"
    shown = sharpcli("inspect", tmp_path / "resumed" / "sgd").stdout
    assert f"is finished, after update {STEPS} of {STEPS}" in shown


@pytest.mark.parametrize("place", thinned(["sgd", "."]))
def test_words_that_agree_are_fine(
    place: str, interrupted: tuple[Path, str], sharpcli: Run, tiny: list[str], tmp_path: Path
) -> None:
    shutil.copytree(interrupted[0].parent, tmp_path / "run")
    words = [*tiny, "--steps", STEPS, *SETTINGS, "--save-every", 50, "--mode", "sgd", "--state-seconds", 5, "--device", "cpu"]
    answer = sharpcli("train", *words, "--resume", tmp_path / "run" / place)
    assert answer.exit_code == 0, answer.stderr
    assert (tmp_path / "run" / "sgd" / "final.pt").is_file()


OTHER = [
    ["--lr", "0.01"],
    ["--steps", "4000"],
    ["--seed", "0"],
    ["--mode", "fullbatch"],
    ["--average", "none"],
    ["--model", "f1"],
    ["--recipe", "geiping-2022-fb"],
    ["--sweep", "lr=0.1,0.2"],
]


@pytest.mark.parametrize("words", OTHER, ids=" ".join)
def test_words_that_contradict_are_refused_by_name(
    words: list[str], interrupted: tuple[Path, str], sharpcli: Run, contents: Callable[[Path], dict[str, str]]
) -> None:
    """Also where a word is the default, such as --seed 0: it was typed."""
    before = contents(interrupted[0])
    answer = sharpcli("train", "--resume", interrupted[0], *words)
    assert answer.exit_code == 2, answer.stderr
    assert answer.stdout == ""
    error, _ = answer.stderr.splitlines()
    assert words[0] in error
    assert contents(interrupted[0]) == before


def test_all_runs_of_a_command_are_gone_on_with(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    """The folder of the command knows of runs that have not begun; the folder of one run is that run alone."""
    words = ["--mode", "sgd,fullbatch", *tiny, "--sweep", "lr=0.01,0.02", "--steps", 4, "--out", tmp_path / "all"]
    assert sharpcli("train", *words).exit_code == 0
    kept = {path.name: (path / "final.pt").read_bytes() for path in (tmp_path / "all").iterdir()}
    assert len(kept) == 4
    first, *others = sorted(kept)
    for name in others:
        shutil.rmtree(tmp_path / "all" / name)
    (tmp_path / "all" / first / "final.pt").unlink()
    (row,) = asked(sharpcli, "inspect", tmp_path / "all" / first)["rows"]
    assert row["step"] is None
    assert "before its state was saved" in row["sentence"]
    assert sharpcli("train", "--resume", tmp_path / "all" / first).exit_code == 0
    assert [path.name for path in (tmp_path / "all").iterdir()] == [first]
    (tmp_path / "all" / first / "final.pt").unlink()
    assert shlex.split(row["go_on"]) == ["sharpcli", "train", "--resume", str(tmp_path / "all")]
    assert sharpcli(*shlex.split(row["go_on"])[1:]).exit_code == 0
    assert {path.name: (path / "final.pt").read_bytes() for path in (tmp_path / "all").iterdir()} == kept


def test_runs_of_several_commands_are_not_gone_on_with_at_once(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    for mode, rate in (("sgd", 0.01), ("fullbatch", 0.02)):
        assert sharpcli("train", *tiny, "--mode", mode, "--lr", rate, "--steps", 2, "--out", tmp_path).exit_code == 0
        (tmp_path / mode / "final.pt").unlink()
    refused = sharpcli("train", "--resume", tmp_path)
    assert refused.exit_code == 2
    assert str(tmp_path / "fullbatch") in refused.stderr
    assert sharpcli("train", "--resume", tmp_path, "--lr", 0.01).exit_code == 0
    assert (tmp_path / "sgd" / "final.pt").is_file()
    assert not (tmp_path / "fullbatch" / "final.pt").is_file()


BAD = [
    ["{folder}"],
    ["--resume", "{folder}/none"],
    ["--resume", "{folder}", "--out", "{folder}/other"],
    ["--resume", "{folder}", "--overwrite"],
]


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_a_folder_that_cannot_be_gone_on_with(words: list[str], interrupted: tuple[Path, str], sharpcli: Run) -> None:
    answer = sharpcli("train", *(word.replace("{folder}", str(interrupted[0])) for word in words))
    assert answer.exit_code in (2, 3)
    assert [line.partition(" ")[0] for line in answer.stderr.splitlines()] == ["error:", "hint:"]


def test_settings_that_cannot_be_read_are_told(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    assert sharpcli("train", *tiny, "--steps", 1, "--out", tmp_path).exit_code == 0
    for text in ('{"settings": {"seed": "x"}, "plan": {}}', '{"settings": 3, "plan": 4}', "half a", "[]"):
        (tmp_path / "sgd" / "settings.json").write_text(text)
        answer = sharpcli("train", "--resume", tmp_path / "sgd")
        assert answer.exit_code == 3, text
        assert [line.partition(" ")[0] for line in answer.stderr.splitlines()] == ["error:", "hint:"]
        assert asked(sharpcli, "inspect", tmp_path / "sgd")["run"]["state"] == "finished"


def test_own_model_code_must_be_named_again(sharpcli: Run, data_file: Path, tmp_path: Path) -> None:
    """Code is never run because a file names it; the line that is printed names it."""
    net = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))\n"
    (tmp_path / "net.py").write_text(net)
    spec = f"{tmp_path / 'net.py'}:net"
    words = ["--model", spec, "--data", f"npz:{data_file}", "--steps", 3, "--out", tmp_path / "run"]
    assert sharpcli("train", *words).exit_code == 0
    (tmp_path / "run" / "sgd" / "final.pt").unlink()
    refused = sharpcli("train", "--resume", tmp_path / "run")
    assert refused.exit_code == 3
    assert f"--model {spec}" in refused.stderr
    (row,) = asked(sharpcli, "inspect", tmp_path / "run" / "sgd")["rows"]
    assert sharpcli(*shlex.split(row["go_on"])[1:]).exit_code == 0
    assert (tmp_path / "run" / "sgd" / "final.pt").is_file()


def test_a_run_that_diverged_names_its_last_good_weights(diverged: Path, sharpcli: Run) -> None:
    (row,) = asked(sharpcli, "inspect", diverged)["rows"]
    good = torch.load(diverged / "last-good.pt", weights_only=True)["metadata"]
    assert row["state"] == "diverged"
    assert row["step"] == good["diverged_at"] >= row["checkpoint_step"] == good["step"]
    assert row["checkpoint"] == str(diverged / "last-good.pt")
    assert row["go_on"] is None
    assert f"diverged at update {row['step']} of 50" in row["sentence"]
    assert row["sentence"] in sharpcli("inspect", diverged).stdout
    assert sharpcli("hessian", row["checkpoint"], "--topk", 1).exit_code == 0


def test_the_folder_above_lists_all_runs(
    interrupted: tuple[Path, str], diverged: Path, runs: Path, sharpcli: Run, tmp_path: Path
) -> None:
    shutil.copytree(interrupted[0].parent, tmp_path / "runs" / "a")
    shutil.copytree(diverged, tmp_path / "runs" / "b" / "sgd")
    shutil.copytree(runs, tmp_path / "runs" / "c")
    (tmp_path / "runs" / "notes").mkdir()
    result = asked(sharpcli, "inspect", tmp_path / "runs")
    folders = ["a/sgd", "b/sgd", "c/fullbatch", "c/largebatch", "c/sgd"]
    assert [row["folder"] for row in result["rows"]] == [str(tmp_path / "runs" / folder) for folder in folders]
    assert [row["state"] for row in result["rows"]] == ["interrupted", "diverged", *["finished"] * 3]
    assert [row["steps"] for row in result["rows"]] == [STEPS, 50, 5, 5, 5]
    for row in result["rows"]:
        assert sharpcli("hessian", row["checkpoint"], "--topk", 1).exit_code == 0
    shown = sharpcli("inspect", tmp_path / "runs").stdout
    for row in result["rows"]:
        assert row["checkpoint"] in shown
        assert row["state"] in shown
    for command in ("hessian", "compare"):
        answer = sharpcli(command, tmp_path / "runs")
        assert answer.exit_code == 3
        assert f"sharpcli inspect {tmp_path / 'runs'}" in answer.stderr


def test_a_folder_without_runs_is_refused(sharpcli: Run, tmp_path: Path) -> None:
    for command in ("inspect", "hessian"):
        answer = sharpcli(command, tmp_path)
        assert answer.exit_code == 3
        assert "final.pt" in answer.stderr


@pytest.mark.slow
def test_seconds_are_those_of_all_sittings(interrupted: tuple[Path, str], sharpcli: Run, tmp_path: Path) -> None:
    shutil.copytree(interrupted[0].parent, tmp_path / "run")
    place = tmp_path / "run" / "sgd" / "last.pt"
    change_state(place, lambda state: state.update(seconds=1000.0))
    result = asked(sharpcli, "train", "--resume", tmp_path / "run")
    assert 1000 < result["rows"][0]["seconds"] < 1500
    assert 1000 < result["seconds"] < 1500
    again = asked(sharpcli, "train", "--resume", tmp_path / "run")  # It is finished, and is not made again.
    assert 1000 < again["rows"][0]["seconds"] < 1500


def test_seconds_of_a_surface_are_those_of_all_sittings(final: Path, sharpcli: Run, tmp_path: Path) -> None:
    words = ["surface", final, "--points", 3, "--state", tmp_path / "state"]
    assert asked(sharpcli, *words)["seconds"] < 500
    change_state(tmp_path / "state", lambda state: state.update(seconds=1000.0))
    assert 1000 < asked(sharpcli, *words)["seconds"] < 1500


def test_seconds_of_a_search_are_those_of_all_sittings(final: Path, sharpcli: Run, tmp_path: Path) -> None:
    words = ["hessian", final, "--topk", 3, "--state", tmp_path / "state"]
    first = asked(sharpcli, *words, "--max-hvp", 4)["seconds"]
    assert 0 < first < 500
    change_state(tmp_path / "state" / "search.pt", lambda search: search["state"].update(seconds=1000.0))
    assert 1000 < asked(sharpcli, *words)["seconds"] < 1500


def test_the_last_lines_of_train_say_what_to_type_next(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    answer = sharpcli("train", *tiny, "--steps", 1, "--out", tmp_path)
    lines = [line.split()[:2] for line in answer.stdout.partition("Next:")[2].splitlines() if line]
    assert ["sharpcli", "inspect"] in lines
    assert ["sharpcli", "hessian"] in lines
    assert ["sharpcli", "compare"] in lines
    assert str(tmp_path / "sgd" / "final.pt") in answer.stdout.splitlines()[-2]


@pytest.mark.slow
def test_a_run_of_an_older_version_can_be_gone_on_with(interrupted: tuple[Path, str], sharpcli: Run, tmp_path: Path) -> None:
    shutil.copytree(interrupted[0].parent, tmp_path / "run")
    place = tmp_path / "run" / "sgd" / "settings.json"
    record = json.loads(place.read_text())
    del record["command"]
    place.write_text(json.dumps(record))
    assert sharpcli("train", "--resume", tmp_path / "run" / "sgd").exit_code == 0


@pytest.mark.parametrize("relative", [True, False])
def test_the_line_is_right_from_where_it_was_typed(relative: bool, machine: Machine, tiny: list[str], tmp_path: Path) -> None:
    """Ctrl-C, and what it prints, by a process of its own in another folder."""
    out = "runs/mine" if relative else str(tmp_path / "elsewhere")
    words = [*tiny, "--steps", STEPS * 100, "--batch-size", 16, "--eval-every", 50, "--out", out]
    stderr = interrupt(machine, tmp_path / out / "sgd", *words, cwd=tmp_path)
    assert command_in(stderr) == ["train", "--resume", f"{out}/sgd"]
