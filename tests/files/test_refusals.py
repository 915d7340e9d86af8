"""What is no checkpoint is called what it is: a page, a pointer, an archive, a pickle of another form."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from sharpcli import files
from sharpcli.errors import InputError

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


@pytest.mark.parametrize("is_zip", [True, False])
def test_another_pickle_protocol_is_called_that(is_zip: bool, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt", pickle_protocol=4, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InputError, match="pickle protocol that cannot be read"):
        files.read_object(tmp_path / "x.pt")
