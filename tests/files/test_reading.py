"""PyTorch and safetensors files: told apart by their contents, and read as they were written."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sharpcli import files
from sharpcli.errors import InputError

CONTENT = {"w": torch.arange(100.0), "v": torch.ones(7, dtype=torch.bfloat16)}


@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_numbers_and_text_come_back(is_zip: bool, tmp_path: Path) -> None:
    torch.save({**CONTENT, "step": 3, "name": "a"}, tmp_path / "x.pt", _use_new_zipfile_serialization=is_zip)
    found = files.read_object(tmp_path / "x.pt")
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in CONTENT.items())
    assert (found["step"], found["name"]) == (3, "a")


def test_safetensors_come_back_with_their_words(tmp_path: Path) -> None:
    save_file(CONTENT, tmp_path / "x.safetensors", metadata={"step": "3"})
    found = files.read_safetensors(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in CONTENT.items())
    assert files.safetensors_metadata(tmp_path / "x.safetensors") == {"step": "3"}


def test_the_kind_is_told_by_the_contents_whatever_the_name(tmp_path: Path) -> None:
    save_file(CONTENT, tmp_path / "safe")
    torch.save(CONTENT, tmp_path / "zip")
    torch.save(CONTENT, tmp_path / "old", _use_new_zipfile_serialization=False)
    (tmp_path / "text").write_text("weights")
    names = ("safe", "zip", "old", "text")
    assert [files.is_safetensors(tmp_path / name) for name in names] == [True, False, False, False]
    assert [files.is_pytorch(tmp_path / name) for name in names] == [False, True, True, False]
    assert files.safetensors_metadata(tmp_path / "text") == {}


@pytest.mark.parametrize("kept", [0.2, 0.9])
def test_safetensors_that_were_cut_are_refused(kept: float, tmp_path: Path) -> None:
    place = tmp_path / "x.safetensors"
    save_file(CONTENT, place)
    place.write_bytes(place.read_bytes()[: int(kept * place.stat().st_size)])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        files.read_safetensors(place)


def test_storages_of_an_old_file_that_are_not_in_its_list_are_not_what_memory_held(tmp_path: Path) -> None:
    place = tmp_path / "x.pt"
    torch.save(CONTENT, place, _use_new_zipfile_serialization=False)
    whole = place.read_bytes()
    with place.open("rb") as file:
        for _ in range(4):
            list(pickletools.genops(file))
        start = file.tell()
        keys = pickle.load(file)
        rest = file.read()
    place.write_bytes(whole[:start] + pickle.dumps(keys[:-1], protocol=2) + rest)
    assert len(torch.load(place, weights_only=True)["w"]) == 100  # The control: torch says nothing.
    with pytest.raises(InputError, match="damaged"):
        files.read_object(place)
