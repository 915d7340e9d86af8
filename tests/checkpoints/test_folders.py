"""What a folder tells of the run in it; commands that go on with one are in tests/cli/test_unfinished_runs.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpcli import checkpoints, files
from sharpcli.checkpoints import _folders, how_to_go_on, run_in, runs_below
from sharpcli.errors import InputError

STATE = {"w": torch.ones(2)}
Make = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Make:
    """Make the folder of a run that has only begun; keywords are settings of its command."""

    def make(name: str = "sgd", **settings: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        record = {"settings": {"mode": ["sgd"], **settings}, "recipe": {"updates": 10}}
        (folder / "settings.json").write_text(json.dumps(record))
        return folder

    return make


def test_a_finished_run_is_its_folder(run: Make):
    folder = run()
    checkpoints.write(folder / "final.pt", STATE, {"step": 10, "stopped_by": "end of schedule"})
    found = run_in(folder)
    assert (found.state, found.step, found.steps, found.weights, found.go_on) == ("finished", 10, 10, folder, None)
    assert found.sentence() == f"The run in {folder} is finished, after update 10 of 10 (end of schedule)."
    assert found.hint() == ""


def test_a_run_that_diverged_has_its_last_good_weights(run: Make):
    folder = run()
    checkpoints.write(folder / "last-good.pt", STATE, {"step": 4, "diverged_at": 6})
    found = run_in(folder)
    assert (found.state, found.step, found.weights, found.weights_step) == ("diverged", 6, folder / "last-good.pt", 4)
    assert "diverged at update 6 of 10" in found.sentence()
    assert "lower --lr" in found.hint()
    assert how_to_go_on(folder) is None


@pytest.mark.parametrize(("updates", "step"), [(7, 7), ("seven", None), (-1, None), (True, None)])
def test_an_interrupted_run_says_how_to_go_on(updates: object, step: int | None, run: Make):
    folder = run()
    for number in (2, 10, 4):
        checkpoints.write(folder / f"step-{number}.pt", STATE, {"step": number})
    files.write_object(folder / "last.pt", {"updates": updates})
    found = run_in(folder)
    assert (found.state, found.step, found.weights_step, found.weights) == ("interrupted", step, 10, folder / "step-10.pt")
    assert found.hint() == f"Continue with: sharpcli train --resume {folder}"


def test_several_runs_of_one_command_go_on_together(run: Make):
    for settings in ({"mode": ["sgd", "fullbatch"]}, {"recipe": ["a", "b"]}, {"sweep": ["lr=0.1,0.2"]}):
        folder = run(str(len(settings)) + next(iter(settings)), **settings)
        assert how_to_go_on(folder) == f"sharpcli train --resume {folder.parent}"


def test_own_model_code_has_to_be_named_again(run: Make):
    assert how_to_go_on(run("own", model="net.py:make")).endswith("/own --model net.py:make")
    assert how_to_go_on(run("ours", model="mlp")).endswith("/ours")


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": {"mode": 3}, "recipe": {}}', '{"settings": {}}'])
def test_settings_of_something_else_are_no_run(content: str, tmp_path: Path):
    (tmp_path / "settings.json").write_text(content)
    assert run_in(tmp_path) is None
    assert how_to_go_on(tmp_path) is None


def test_runs_are_found_three_folders_deep_and_never_within_runs(run: Make, tmp_path: Path):
    one, two = run("b/sgd"), run("a")
    run("a/inside")
    run("x/y/z")  # The fourth folder within tmp_path.
    run(".hidden")
    assert list(runs_below(tmp_path)) == [two, one]
    assert list(runs_below("")) == []


def test_a_folder_without_weights_names_its_runs(run: Make, tmp_path: Path):
    for name in ("a", "b", "c", "d"):
        run(name)
    error = _folders.no_weights(tmp_path)
    assert "holds no final.pt" in error.message
    assert "and 1 more" in error.hint
    assert f"sharpcli inspect {tmp_path}" in error.hint
    (tmp_path / "none").mkdir()
    assert _folders.no_weights(tmp_path / "none").hint == "Name a file."


def test_a_damaged_final_file_is_told(run: Make):
    folder = run()
    (folder / "final.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="damaged or cut short"):
        run_in(folder)
