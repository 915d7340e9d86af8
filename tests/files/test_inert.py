"""Inert types are read in zip and legacy containers alike, and what is no inert type is never run."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import os
import pathlib
import types
import uuid
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from sharpcli import files
from sharpcli.errors import InputError

INERT = {
    "namespace": argparse.Namespace(lr=0.1, parts=[1, 2], place=Path("a/b")),
    "simple namespace": types.SimpleNamespace(a=1),
    "path": Path("a/b"),
    "windows path": pathlib.PureWindowsPath("c:/x"),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "deque": collections.deque([1, 2], maxlen=3),
    "counter": collections.Counter("abb"),
    "ordered": collections.OrderedDict(a=1),
    "double": numpy.float64(0.93),
    "single": numpy.float32(0.5),
    "whole": numpy.int64(3),
    "truth": numpy.bool_(True),
    "array": numpy.arange(4.0),
    "array type": numpy.dtype("float32"),
    "moment": datetime.datetime(2024, 1, 2, 3, 4),
    "span": datetime.timedelta(hours=1),
    "decimal": decimal.Decimal("1.5"),
    "id": uuid.UUID(int=3),
    "frozenset": frozenset([1]),
    "slice": slice(1, 2),
    "version": torch.__version__,
}


class Runs:
    """Unpickling this makes a file."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


class Own:
    """A class of the user's own code."""


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def kind(request: pytest.FixtureRequest) -> dict[str, bool]:
    return {"_use_new_zipfile_serialization": request.param}


@pytest.mark.parametrize("name", INERT)
def test_inert_types_are_read_beside_tensors(name: str, kind: dict[str, bool], tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0), "more": {"deep": [INERT[name]]}}, tmp_path / "x.pt", **kind)
    found = files.read_object(tmp_path / "x.pt")
    assert torch.equal(found["w"], torch.arange(3.0))
    assert list(found) == ["w", "more"]


def test_numbers_of_numpy_keep_their_values(kind: dict[str, bool], tmp_path: Path) -> None:
    torch.save({name: INERT[name] for name in ("double", "single", "whole", "truth")}, tmp_path / "x.pt", **kind)
    assert files.read_object(tmp_path / "x.pt") == {"double": 0.93, "single": 0.5, "whole": 3, "truth": True}


def test_dictionaries_of_other_kinds_keep_their_entries(kind: dict[str, bool], tmp_path: Path) -> None:
    torch.save({"a": INERT["defaultdict"], "b": INERT["deque"]}, tmp_path / "x.pt", **kind)
    assert files.read_object(tmp_path / "x.pt") == {"a": {"a": [1]}, "b": [1, 2]}


def test_nothing_stays_allowed_afterwards(tmp_path: Path) -> None:
    torch.save({"n": INERT["namespace"]}, tmp_path / "x.pt")
    before = set(torch.serialization.get_safe_globals())
    files.read_object(tmp_path / "x.pt")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (lambda place: Runs(os.mkdir, str(place)), "mkdir"),
        (lambda place: Runs(Path.touch, place), "getattr"),
        (lambda place: Runs(exec, f"open({str(place)!r}, 'w')"), "exec"),
        (lambda place: Runs(getattr, argparse.Namespace(place=place), "place"), "getattr"),
        (lambda _: Own(), "Own"),
        (lambda _: nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (lambda _: len, "len"),
    ],
    ids=["function", "method", "exec", "getattr", "own class", "module", "builtin"],
)
def test_code_is_named_and_not_run(content: object, word: str, kind: dict[str, bool], tmp_path: Path) -> None:
    """Also where inert types stand before it: they are not what is to be blamed."""
    content = {"n": INERT["namespace"], "w": torch.ones(2), "x": content(tmp_path / "ran")}
    torch.save(content, tmp_path / "x.pt", **kind)
    with pytest.raises(InputError, match="running code") as caught:
        files.read_object(tmp_path / "x.pt")
    assert word in caught.value.message
    assert "Namespace" not in caught.value.message
    assert not (tmp_path / "ran").exists()


KINDS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n", "Git LFS"),
    "page": (b"\n <!DOCTYPE html><html>Sign in</html>", "web page"),
    "plain page": (b"<HTML><body>404</body>", "web page"),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "compressed"),
    "zstd": (b"\x28\xb5\x2f\xfdrest", "compressed"),
    "keras": (b"\x89HDF\r\n\x1a\nrest", "HDF5"),
    "array": (b"\x93NUMPY\x01\x00rest", "NumPy"),
    "empty": (b"", "empty"),
    "text": (b"hello", "not a PyTorch checkpoint"),
    "bare pickle": (b"\x80\x04\x95\x0b\x00\x00\x00", "not written by torch.save"),
    "start of a zip": (b"PK\x03\x04\x00\x00", "cut short"),
    "start of a legacy file": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "cut short"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_checkpoint_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    content, word = KINDS[name]
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(InputError, match=word):
        files.read_object(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["lfs", "page", "empty"])
def test_the_same_under_the_name_of_safetensors(name: str, tmp_path: Path) -> None:
    content, word = KINDS[name]
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=word):
        files.read_safetensors(tmp_path / "x.safetensors")


def test_a_legacy_file_that_is_cut_short(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(100)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        files.read_object(tmp_path / "x.pt")


def test_arrays_are_no_checkpoint(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "x.npz", a=numpy.ones(2))
    with pytest.raises(InputError, match="NumPy arrays"):
        files.read_object(tmp_path / "x.npz")


def test_another_pickle_protocol_is_called_that(kind: dict[str, bool], tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt", pickle_protocol=4, **kind)
    with pytest.raises(InputError, match="form of pickle"):
        files.read_object(tmp_path / "x.pt")
