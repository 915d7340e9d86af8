"""The door through which every file is opened; pipes, devices and folders are in test_broken_files.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpcli.errors import InputError
from sharpcli.files import expanded, is_there, opened
from sharpcli.files._opened import read_bytes


def test_a_regular_file_is_opened_for_bytes(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"\x00\x01")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    for name in ("x", "link"):
        with opened(tmp_path / name) as file:
            assert file.read() == b"\x00\x01"


@pytest.mark.parametrize("name", ["none", "x" * 300, "zero\0byte"])
def test_what_cannot_be_opened_is_told_with_its_path(name: str, tmp_path: Path):
    with pytest.raises(InputError, match="Cannot read ") as error:
        opened(tmp_path / name)
    assert str(tmp_path) in error.value.message


def test_a_path_that_cannot_be_looked_at_is_no_missing_file(tmp_path: Path):
    assert not is_there(tmp_path / "none")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    assert is_there(tmp_path / "file")
    with pytest.raises(InputError, match="Cannot read "):
        is_there(tmp_path / ("x" * 300))


def test_a_file_has_at_most_so_many_bytes(tmp_path: Path):
    (tmp_path / "x").write_bytes(bytes(10))
    assert read_bytes(tmp_path / "x", 10) == bytes(10)
    with pytest.raises(InputError, match="is larger than 9 bytes"):
        read_bytes(tmp_path / "x", 9)


def test_the_home_folder_stands_for_the_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x.pt") == tmp_path / "x.pt"
    assert expanded("~nosuchuser/x.pt") == Path("~nosuchuser/x.pt")
    assert expanded("x~.pt") == Path("x~.pt")
