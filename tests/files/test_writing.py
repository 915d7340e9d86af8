"""A file is written whole or not at all, and only a file is replaced; full disks are in tests/machine/test_outputs.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from sharpcli.errors import InputError
from sharpcli.files import _writing, destination, from_root, write_bytes, write_object


def test_folders_are_made_and_no_other_file_stays(tmp_path: Path):
    write_bytes(tmp_path / "a" / "b" / "x", b"one")
    write_bytes(tmp_path / "a" / "b" / "x", b"two", durable=True)
    assert (tmp_path / "a" / "b" / "x").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x"]


def test_rights_are_those_of_any_new_file(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_equal_contents_are_equal_bytes_whatever_the_name(tmp_path: Path):
    for name in ("x.pt", "y.pt"):
        write_object(tmp_path / name, {"w": torch.arange(3.0), "step": 2})
    assert (tmp_path / "x.pt").read_bytes() == (tmp_path / "y.pt").read_bytes()


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError, match="Cannot write .*Input/output error"):
        write_bytes(tmp_path / "x", b"new", durable=True)
    monkeypatch.undo()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(("make", "words"), [(Path.mkdir, "a folder"), (os.mkfifo, "a pipe")])
def test_only_files_are_replaced(make, words: str, tmp_path: Path):
    make(tmp_path / "x")
    with pytest.raises(InputError, match=f"it is {words}"):
        destination(tmp_path / "x")
    with pytest.raises(InputError, match=f"it is {words}"):
        write_bytes(tmp_path / "x", b"")


def test_a_full_disk_is_told_with_what_is_free(tmp_path: Path):
    full = _writing.unwritable(tmp_path / "x", OSError(errno.ENOSPC, "No space left on device"))
    assert "MiB are free in" in full.message
    assert str(tmp_path) in full.message
    assert "ulimit -f" in _writing.unwritable(tmp_path / "x", OSError(errno.EFBIG, "File too large")).hint


def test_only_unfinished_files_of_one_name_or_of_all_are_removed(tmp_path: Path):
    for name in (".x.abc.part", ".y.abc.part", "x", "x.part", ".x.abc"):
        (tmp_path / name).touch()
    _writing.forget_unfinished(tmp_path, "x")
    assert {path.name for path in tmp_path.iterdir()} == {".y.abc.part", "x", "x.part", ".x.abc"}
    _writing.forget_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.part", ".x.abc"}


def test_a_path_is_told_from_the_root_and_no_file_needs_to_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert from_root("x") == tmp_path / "x"
    for wrong in ("~nosuchuser/x", "zero\0byte"):
        with pytest.raises(InputError):
            from_root(wrong)
