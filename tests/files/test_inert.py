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
