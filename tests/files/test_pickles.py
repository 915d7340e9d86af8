"""What a pickle would make is read from its instructions before it is made."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from sharpcli import files
from sharpcli.errors import InputError
from sharpcli.files import _pickles


def test_a_type_that_can_be_of_any_size_is_not_made(tmp_path: Path) -> None:
    for legacy in (False, True):
        torch.save({"w": torch.ones(2), "x": bytearray(b"")}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(InputError, match="bytearray, which can need any amount of memory"):
            files.read_object(tmp_path / "x.pt")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_text_that_only_looks_like_that_type_is_fine(is_zip: bool, tmp_path: Path) -> None:
    content = {"w": torch.ones(2), "note": "builtins bytearray", "bytearray": 1}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=is_zip)
    assert files.read_object(tmp_path / "x.pt")["note"] == "builtins bytearray"


def test_what_is_no_whole_pickle_is_left_to_the_reader() -> None:
    _pickles.require_bounded(Path("x.pt"), io.BytesIO(b"\x80\x02}q\x00"), is_archive=False)
