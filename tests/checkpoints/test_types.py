"""Which tensors can be weights; types in every container are in test_reading.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sharpcli.checkpoints import _types
from sharpcli.errors import InputError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "x.pt").write_bytes(bytes(1000))
    return tmp_path / "x.pt"


def test_a_type_is_named_as_users_write_it():
    assert _types.words(torch.bfloat16) == "bfloat16"


def test_plain_tensors_of_real_and_whole_numbers_are_read(place: Path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    _types.require_readable(place, {str(kind): torch.ones(3, dtype=kind) for kind in kinds})


ODD = {
    "sparse": torch.eye(3).to_sparse(),
    "without data": torch.ones(3, device="meta"),
    "complex": torch.ones(3, dtype=torch.complex64),
    "float8": torch.ones(3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", ODD)
def test_other_tensors_are_refused_by_name(name: str, place: Path):
    with pytest.raises(InputError, match=f"'odd' in .*({name}|sparse, quantized or without data)"):
        _types.require_readable(place, {"weight": torch.ones(2), "odd": ODD[name]})


def test_only_real_numbers_are_weights(place: Path):
    _types.require_real(place, "w", torch.ones(2, dtype=torch.float16))
    for kind in (torch.int64, torch.bool):
        with pytest.raises(InputError, match="real floating-point numbers"):
            _types.require_real(place, "w", torch.ones(2, dtype=kind))


def test_a_name_is_short_and_can_be_printed(place: Path):
    _types.require_readable(place, {"x" * 1000: torch.ones(2)})
    for name, words in (("x" * 1001, "of 1001 characters"), ("a\tb", "cannot be printed"), ("\ud800", "not valid text")):
        with pytest.raises(InputError, match=words):
            _types.require_readable(place, {name: torch.ones(2)})


def test_all_tensors_together_take_what_such_a_file_can_hold(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_types, "_SMALL", 0)  # Now 256 times the 1000 bytes of the file.
    one = torch.ones(1).expand(32_000)
    _types.require_readable(place, {"a": one, "b": one})
    with pytest.raises(InputError, match="'c' in .* far more than the file holds"):
        _types.require_readable(place, {"a": one, "b": one, "c": torch.ones(3)})


def test_memory_beside_the_file_is_not_read(place: Path):
    with pytest.raises(InputError, match="far more than the file holds"):
        _types.require_readable(place, {"a": torch.ones(251)})


def test_the_size_of_weights_in_several_files_is_that_of_all_of_them(tmp_path: Path):
    """An index is small, and a folder of a distributed checkpoint has no size of its own."""
    from safetensors.torch import save_file

    from sharpcli import checkpoints

    parts = {f"w{number}": torch.ones(300, 100) for number in range(3)}
    for name, tensor in parts.items():
        save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in parts}}))
    assert checkpoints.read(tmp_path).state.keys() == parts.keys()
    with pytest.raises(InputError, match="far more than the file holds"):
        _types.require_readable(index, {"w": torch.ones(1).expand(10**9)})
