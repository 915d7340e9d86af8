"""Arrays of npz files by name; no object in them is ever unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from sharpcli.errors import InputError
from sharpcli.files import read_arrays

ARRAYS = {"x": numpy.arange(6.0).reshape(2, 3), "y": numpy.array([1, 2]), "empty": numpy.zeros((0, 4), "float32")}


@pytest.mark.parametrize("save", [numpy.savez, numpy.savez_compressed])
def test_arrays_come_back_as_they_were_written(save, tmp_path: Path):
    save(tmp_path / "x.npz", **ARRAYS)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert numpy.array_equal(found[name], array)


def test_only_the_chosen_arrays_are_read(tmp_path: Path):
    numpy.savez(tmp_path / "x.npz", **ARRAYS, objects=numpy.array([{}], dtype=object))
    seen: list[str] = []

    def choose(names: list[str]) -> list[str]:
        seen.extend(names)
        return ["y"]

    assert read_arrays(tmp_path / "x.npz", choose)["y"].tolist() == [1, 2]
    assert seen == [*ARRAYS, "objects"]
    with pytest.raises(InputError, match="cannot be read as an npz file"):
        read_arrays(tmp_path / "x.npz")


def test_a_choice_may_refuse_in_its_own_words(tmp_path: Path):
    numpy.savez(tmp_path / "x.npz", **ARRAYS)

    def refuse(_: list[str]) -> list[str]:
        raise InputError("There is no z.", "Add it.")

    with pytest.raises(InputError, match=r"^There is no z\."):
        read_arrays(tmp_path / "x.npz", refuse)


def test_a_file_of_one_array_has_no_names(tmp_path: Path):
    numpy.save(tmp_path / "x.npy", ARRAYS["x"])
    with pytest.raises(InputError, match="holds one array, not named arrays"):
        read_arrays(tmp_path / "x.npy")
