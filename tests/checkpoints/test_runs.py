"""The files of one run: the weights that it started from, and its saved steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharpcli import checkpoints, progress
from sharpcli.checkpoints import initial_weights, saved_steps, whole_run
from sharpcli.errors import InputError

START, END = {"w": torch.zeros(2)}, {"w": torch.ones(2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints.write(tmp_path / "init.pt", START, {})
    about = {"step": 10, "init": {"path": "init.pt", "sha256": checkpoints.state_sha256(START)}}
    checkpoints.write(tmp_path / "final.pt", END, about)
    return tmp_path


def test_a_run_began_with_the_file_that_it_names(folder: Path):
    found = initial_weights(checkpoints.read(folder))
    assert found.path == folder / "init.pt"
    assert torch.equal(found.state["w"], START["w"])


def test_another_file_in_its_place_is_refused(folder: Path):
    checkpoints.write(folder / "init.pt", END, {})
    with pytest.raises(InputError, match="its hash differs"):
        initial_weights(checkpoints.read(folder))


def test_a_file_that_has_moved_is_told(folder: Path):
    (folder / "init.pt").rename(folder / "other.pt")
    with pytest.raises(InputError, match="not at .*init.pt any more"):
        initial_weights(checkpoints.read(folder))


def test_a_checkpoint_without_a_record_is_told(folder: Path):
    with pytest.raises(InputError, match="does not say where its initial weights are"):
        initial_weights(checkpoints.read(folder / "init.pt"))


def step(folder: Path, number: int, value: float) -> None:
    checkpoints.write(folder / f"step-{number}.pt", {"w": torch.full((2,), value)}, {"step": number})


def test_steps_come_in_the_order_of_updates_and_end_with_the_last_weights(folder: Path):
    for number in (9, 10, 2):
        step(folder, number, number / 10)
    final = checkpoints.read(folder)
    assert [one.metadata["step"] for one in saved_steps(folder, final)] == [2, 9, 10]
    step(folder, 10, 0.9)
    assert [one.path.name for one in saved_steps(folder, final)] == ["step-2.pt", "step-9.pt", "step-10.pt", "final.pt"]


def test_the_name_of_a_file_tells_its_step_where_nothing_else_does(folder: Path):
    for number in (10, 9):
        checkpoints.write(folder / f"step-{number}.pt", {"w": torch.full((2,), number / 10)}, {})
    assert [one.path.name for one in saved_steps(folder, checkpoints.read(folder))][:2] == ["step-9.pt", "step-10.pt"]
    checkpoints.write(folder / "step-last.pt", END, {})
    with pytest.raises(InputError, match="after how many updates"):
        saved_steps(folder, checkpoints.read(folder))


class _Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_a_run_begins_with_its_initial_weights_if_they_are_there(folder: Path):
    step(folder, 2, 0.2)
    assert [one.path.name for one in whole_run(folder, checkpoints.read(folder))] == ["init.pt", "step-2.pt", "final.pt"]
    (folder / "init.pt").unlink()
    listener = _Listener()
    with progress.listening(listener):  # type: ignore[arg-type]
        assert [one.path.name for one in whole_run(folder, checkpoints.read(folder))] == ["step-2.pt", "final.pt"]
    assert ["The initial weights are left out" in one for one in listener.said] == [True]
    (folder / "step-2.pt").unlink()
    assert whole_run(folder, checkpoints.read(folder)) == []


def test_a_file_alone_has_no_steps(folder: Path):
    step(folder, 1, 0.1)
    assert saved_steps(folder / "final.pt", checkpoints.read(folder)) == []
