"""Tensors in files: written whole or not at all, read without ever running code that is in them."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sharpcli.errors import InputError


def write_object(path: Path, content: object) -> None:
    """Save plain tensors, numbers and text, whole or not at all."""
    buffer = io.BytesIO()  # torch.save writes the name of a file into it; a buffer has none.
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside its place, then move it there.

    Raises:
        InputError: The folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"Cannot write {path}: {error.strerror or error}.", "Choose a folder that you may write to.")


def read_object(place: Path) -> Any:
    """Read plain tensors, numbers and text.

    Raises:
        InputError: The file is missing, damaged, no PyTorch file, or needs code to be read.
    """
    _open(place).close()
    try:
        if zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:  # torch does not compare the sums that are stored for this.
                if archive.testzip() is not None:
                    raise _damaged(place)
        with warnings.catch_warnings():  # What they warn of is refused below, in our own words.
            warnings.simplefilter("ignore")
            return torch.load(place, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch raises a dozen kinds for files it cannot read
        raise _explain(place, error) from error


def _damaged(place: Path) -> InputError:
    return InputError(f"{place} is damaged or cut short.", "Copy it again from where it was written.")


def _explain(place: Path, error: Exception) -> InputError:
    """Say what a file that torch cannot open is."""
    with place.open("rb") as file:
        head = file.read(2)
    if head == b"PK" and "TorchScript" in str(error):
        return InputError(
            f"{place} is a TorchScript archive, not weights.", "Save model.state_dict() and name the model with --model."
        )
    if head == b"PK" and ("Unsupported" in str(error) or "Weights only" in str(error)):
        blocked = ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(str(place))[:5])
        return InputError(
            f"{place} can only be opened by running code in it ({blocked}).",
            "Save the weights alone: torch.save(model.state_dict(), ...); sharpcli never runs a checkpoint's code.",
        )
    if (
        head == b"PK"
        and zipfile.is_zipfile(place)
        and not any("data.pkl" in name for name in zipfile.ZipFile(place).namelist())
    ):
        return InputError(f"{place} is a zip archive, but not a PyTorch checkpoint.", "Give a file written by torch.save.")
    if head == b"PK":
        return _damaged(place)
    return InputError(f"{place} is not a PyTorch checkpoint.", "Give a file written by torch.save or safetensors.")


def is_safetensors(place: Path) -> bool:
    """Tell by the ending or by the contents: the length of a JSON header, then the header."""
    if place.suffix == ".safetensors":
        return True
    with _open(place) as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < place.stat().st_size


def _open(place: Path) -> BinaryIO:
    try:
        return place.open("rb")
    except IsADirectoryError as error:
        raise InputError(f"Cannot read {place}: it is a folder.", "Name a file.") from error
    except OSError as error:
        raise InputError(f"Cannot read {place}: {error.strerror or error}.", "Check its permissions.") from error


def safetensors_metadata(place: Path) -> dict[str, str]:
    """Return the words that a safetensors file holds beside its tensors; {} for any other file."""
    try:
        with safe_open(place, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def read_safetensors(place: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return dict(load_file(place))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{place} is not a readable safetensors file.", "It may be cut short; copy it again.") from error
