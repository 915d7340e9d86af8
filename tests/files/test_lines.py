"""JSON documents in files: of the type that was asked for, or refused with the hint of the caller."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import pytest

from sharpcli.errors import InputError
from sharpcli.files import read_json, read_lines

HINT = "Begin anew."


class Line(TypedDict):
    step: int
    loss: float


def test_a_document_and_its_lines_are_read(tmp_path: Path):
    (tmp_path / "one.json").write_text('{"step": 1, "loss": 0.5}\n')
    (tmp_path / "many.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25, "later": "version"}\n')
    assert read_json(tmp_path / "one.json", Line, HINT) == {"step": 1, "loss": 0.5}
    assert [line["step"] for line in read_lines(tmp_path / "many.jsonl", Line, HINT)] == [1, 2]


def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"step": 1, "loss": 0.5}', encoding="utf-8-sig")
    assert read_json(tmp_path / "x.json", Line, HINT)["step"] == 1


BROKEN = {
    "no JSON": b"{",
    "another type": b'{"step": "one", "loss": 0.5}',
    "a key is missing": b'{"step": 1}',
    "no finite number": b'{"step": 1, "loss": NaN}',
    "no text": b"\xff\xfe\xff",
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("read", [read_json, read_lines])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_anything_else_is_damage(content: bytes, read, tmp_path: Path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match="is damaged") as error:
        read(tmp_path / "x.json", Line, HINT)
    assert error.value.hint == HINT


def test_one_bad_line_is_damage_of_the_whole_file(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    with pytest.raises(InputError, match="is damaged"):
        read_lines(tmp_path / "x.jsonl", Line, HINT)
