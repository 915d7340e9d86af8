"""All files below a folder, in an order of names; links that have no end are in test_broken_files.py too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sharpcli.errors import InputError
from sharpcli.files import _walking, files_below, folders_in


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/2", "b/1", "a/deep/er/3", "a/1", "top"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    (tmp_path / "none").mkdir()
    return tmp_path


def test_files_come_folder_by_folder_in_the_order_of_names(tree: Path):
    found = [str(Path(path).relative_to(tree)) for path in files_below(tree)]
    assert found == ["top", "a/1", "a/deep/er/3", "b/1", "b/2"]


def test_the_folders_of_a_folder_are_those_directly_in_it(tree: Path):
    (tree / "link").symlink_to(tree / "a")
    assert folders_in(tree) == ["a", "b", "link", "none"]


def test_a_folder_may_be_reached_twice_but_not_from_within_itself(tree: Path):
    (tree / "c").symlink_to(tree / "b")
    assert [Path(path).name for path in files_below(tree)].count("2") == 2
    (tree / "a" / "deep" / "up").symlink_to(tree / "a")
    with pytest.raises(InputError, match="a link to a folder that contains it"):
        files_below(tree)


@pytest.mark.parametrize("read", [files_below, folders_in])
def test_a_folder_that_is_not_there_is_told(read, tmp_path: Path):
    with pytest.raises(InputError, match="No such file or directory"):
        read(tmp_path / "none")


def test_there_is_a_limit(tree: Path, monkeypatch: pytest.MonkeyPatch):
    count = sum(len(folders) + len(names) for _, folders, names in os.walk(tree))
    monkeypatch.setattr(_walking, "_MOST", count)
    assert len(files_below(tree)) == 5
    monkeypatch.setattr(_walking, "_MOST", count - 1)
    with pytest.raises(InputError, match="holds more than"):
        files_below(tree)
