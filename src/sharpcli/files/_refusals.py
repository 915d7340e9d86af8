"""What a file is that is no checkpoint, or that cannot be read: one sentence, one hint."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from sharpcli.errors import InputError
from sharpcli.files._inert import STAND_INS

_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # What torch.save began files with before they were zip archives, as a pickle.
_BLOCKED = re.compile(r"GLOBAL (\S+)")
_SAVE_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), ...)"


def opened(place: Path) -> BinaryIO:
    """Open a file to be read.

    Raises:
        InputError: It cannot be.
    """
    try:
        return place.open("rb")
    except IsADirectoryError as error:
        raise InputError(f"Cannot read {place}: it is a folder.", "Name a file.") from error
    except OSError as error:
        raise InputError(f"Cannot read {place}: {error.strerror or error}.", "Check its permissions.") from error


def damaged(place: Path) -> InputError:
    """Return the error of a file that is not whole."""
    return InputError(f"{place} is damaged or cut short.", "Copy it again from where it was written.")


def require_weights(place: Path) -> None:
    """Refuse what often lies under the name of a checkpoint and is none, by its first bytes.

    Raises:
        InputError: It is something else, or empty.
    """
    with opened(place) as file:
        head = file.read(512)
    start = head.lstrip().lower()
    if not head:
        raise InputError(f"{place} is empty.", "Copy it again from where it was written.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{place} is a pointer of Git LFS, not the file that it stands for.", "Fetch the file itself with 'git lfs pull'."
        )
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"{place} is a web page, not a checkpoint.",
            "A download has saved the page in front of the file; open it in a browser to see what it says.",
        )
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")):
        raise InputError(f"{place} is a compressed archive.", "Unpack it, and give the file inside.")
    if head.startswith(b"\x89HDF"):
        raise InputError(f"{place} is an HDF5 file, as Keras writes them.", "Give a file written by torch.save or safetensors.")
    if head.startswith(b"\x93NUMPY"):
        raise InputError(f"{place} is a NumPy array.", "Give a file written by torch.save or safetensors.")


def explain(place: Path, error: Exception) -> InputError:
    """Say why torch cannot open a file."""
    with opened(place) as file:
        head = file.read(64)
    reason = str(error)
    if head.startswith(b"PK"):
        return _of_archive(place, reason)
    if not head.startswith(b"\x80"):
        return InputError(f"{place} is not a PyTorch checkpoint.", "Give a file written by torch.save or safetensors.")
    if _LEGACY not in head:
        return InputError(f"{place} is a pickle, but was not written by torch.save.", f"{_SAVE_WEIGHTS}.")
    if "UntypedStorage" in reason:
        return InputError(
            f"{place} holds numbers, such as float8, that torch cannot read from files of its old kind: weights have to be "
            "real floating-point numbers.",
            "Save it as float32 or bfloat16.",
        )
    return _needs_code(place, reason, _BLOCKED.findall(reason)) or damaged(place)


def _of_archive(place: Path, reason: str) -> InputError:
    if "TorchScript" in reason:
        return InputError(
            f"{place} is a TorchScript archive, not weights.", "Save model.state_dict() and name the model with --model."
        )
    if not zipfile.is_zipfile(place):
        return damaged(place)
    names = zipfile.ZipFile(place).namelist()
    if not any("data.pkl" in name for name in names):
        arrays = bool(names) and all(name.endswith(".npy") for name in names)
        return InputError(
            f"{place} is a {'file of NumPy arrays' if arrays else 'zip archive'}, but not a PyTorch checkpoint.",
            "Give a file written by torch.save.",
        )
    try:
        with torch.serialization.safe_globals(list(STAND_INS)):
            blocked = torch.serialization.get_unsafe_globals_in_checkpoint(str(place))
    except Exception:  # What torch's reader stops at, its lister may stop at as well.
        blocked = []
    return _needs_code(place, reason, blocked or _BLOCKED.findall(reason)) or damaged(place)


def _needs_code(place: Path, reason: str, blocked: list[str]) -> InputError | None:
    """Say what in a sound file cannot be read; None if that is not what the reason says."""
    if "DTensor" in reason:
        return InputError(
            f"{place} holds tensors that are spread over several devices (DTensor).",
            "Gather them before saving, such as with get_model_state_dict and full_state_dict=True.",
        )
    if "Unsupported operand" in reason:
        return InputError(
            f"{place} was written in a form of pickle that cannot be read without running code.",
            "Save it without pickle_protocol, or as safetensors.",
        )
    if "Unsupported" not in reason and "Weights only" not in reason:
        return None
    named = ", ".join(name.rstrip(".") for name in dict.fromkeys(blocked[:5]))
    return InputError(
        f"{place} can only be opened by running code in it{f' ({named})' if named else ''}.",
        f"{_SAVE_WEIGHTS}; sharpcli never runs a checkpoint's code.",
    )
