"""A lock of this process; those between processes are in tests/machine/test_held.py."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from sharpcli.errors import InputError
from sharpcli.files import held


@pytest.mark.parametrize("folder", [True, False])
def test_the_lock_says_who_holds_it_and_goes_with_it(folder: bool, tmp_path: Path):
    lock = tmp_path / "state" / ".lock" if folder else tmp_path / ".state.lock"
    with held(tmp_path / "state", "--state", folder=folder):
        about = json.loads(lock.read_text())
        assert (about["process"], about["host"]) == (os.getpid(), socket.gethostname())
    assert list(tmp_path.iterdir()) == []


def test_two_places_of_one_folder_are_held_apart(tmp_path: Path):
    with held(tmp_path / "one", "--state", folder=False), held(tmp_path / "two", "--state", folder=False):
        assert {path.name for path in tmp_path.iterdir()} == {".one.lock", ".two.lock"}


def test_an_error_lets_go(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / "x", "--out", folder=True):
        raise ZeroDivisionError
    with held(tmp_path / "x", "--out", folder=True):
        pass


def test_a_place_below_a_file_cannot_be_held(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write "), held(tmp_path / "file" / "x", "--out", folder=True):
        pass


def test_a_disk_without_locks_holds_nothing_and_hinders_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from sharpcli.files import _locking

    def refuse(*_: object) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(_locking.fcntl, "flock", refuse)
    with held(tmp_path / "x", "--out", folder=True), held(tmp_path / "x", "--out", folder=True):
        pass
