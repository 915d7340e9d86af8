"""A pickle of plain values and known records: nothing in it is run, and it takes no more memory than its size allows."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpcli import files
from sharpcli.errors import InputError


@dataclass
class Place:
    name: str
    size: torch.Size


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


NAME = f"{__name__}.Place"


def read(tmp_path: Path, content: bytes, *names: str) -> Any:
    (tmp_path / "x").write_bytes(content)
    return files.read_plain_pickle(tmp_path / "x", names, "Try something else.")


@pytest.mark.parametrize("protocol", range(3, 6))
def test_plain_values_and_known_records(protocol: int, tmp_path: Path) -> None:
    value = {"a": [1, 2.5, "text", None, (True, b"x")], "size": torch.Size([2, 3]), "dtype": torch.bfloat16}
    found = read(tmp_path, pickle.dumps({**value, "place": Place("w", torch.Size([4]))}, protocol), NAME)
    assert {key: found[key] for key in value} == {**value, "size": (2, 3)}
    assert found["place"].state == {"name": "w", "size": (4,)}


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps(Place("w", torch.Size([1]))),
        pickle.dumps(torch.nn.Linear),
        b"cos\nsystem\n(S'true'\ntR.",
        b"ctorch\nload\n.",
        b"\x80\x04Pid\n.",
        b"\x80\x02\x82\x01.",  # A class of the registry of extensions.
        b"\x80\x04\x8c\x01x",
        b"garbage",
    ],
)
def test_anything_else_is_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="cannot be read without running code in it"):
        read(tmp_path, content)
    assert capsys.readouterr().out == ""


def test_a_huge_place_in_the_memo_takes_no_memory(tmp_path: Path) -> None:
    assert read(tmp_path, b"\x80\x02K\x01r" + struct.pack("<I", 2**32 - 1) + b".") == 1


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(InputError, match="is larger than"):
        files.read_plain_pickle(tmp_path / "x", (), "Try something else.")
