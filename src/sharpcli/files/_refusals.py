"""Errors for files that are not checkpoints or cannot be read: one sentence and one hint each."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from sharpcli.errors import CodeNeededError, InputError
from sharpcli.files._archive import damaged
from sharpcli.files._inert import STAND_INS

_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # Start of files by old releases of torch.save, which are not zip archives.
_BLOCKED = re.compile(r"GLOBAL (\S+)")
# Parts of torch's messages about an unknown type or function; all its other messages mean damage.
_OF_CODE = ("nsupported global", "nsupported GLOBAL", "unrecognized function", "Can only create new object", "Can only build")
_LONGEST = 100  # Characters of the name of a type.
_SAVE_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), ...)"


def require_weights(place: Path, file: BinaryIO) -> bytes:
    """Refuse files that are often confused with checkpoints, by their first bytes, and return these bytes.

    Raises:
        InputError: The file is not a checkpoint.
    """
    head = file.read(512)
    start = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{place} is a Git LFS pointer, not the file itself.", "Fetch the file itself with 'git lfs pull'.")
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"{place} is a web page, not a checkpoint.",
            "The download saved a web page instead of the file. Open it in a browser to see the reason.",
        )
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")):
        raise InputError(f"{place} is a compressed archive.", "Unpack it, and give the file inside.")
    if head.startswith(b"\x89HDF"):
        raise InputError(f"{place} is an HDF5 file, as Keras writes them.", "Give a file written by torch.save or safetensors.")
    if head.startswith(b"\x93NUMPY"):
        raise InputError(f"{place} is a NumPy array.", "Give a file written by torch.save or safetensors.")
    return head


def require_container(place: Path, file: BinaryIO, head: bytes) -> bool:
    """Refuse a file that torch.save did not write, by its first bytes and members; return whether it is a zip archive.

    Raises:
        InputError: The file was not written by torch.save.
    """
    if head.startswith(b"PK"):
        _require_object(place, file)
        return True
    if not head.startswith(b"\x80"):
        raise InputError(f"{place} is not a PyTorch checkpoint.", "Give a file written by torch.save or safetensors.")
    if _LEGACY not in head[:64]:
        raise InputError(f"{place} is a pickle, but was not written by torch.save.", f"{_SAVE_WEIGHTS}.")
    return False


def _require_object(place: Path, file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises many kinds of errors.
        raise damaged(place) from error
    if not any("data.pkl" in name for name in names):
        arrays = bool(names) and all(name.endswith(".npy") for name in names)
        raise InputError(
            f"{place} is a {'file of NumPy arrays' if arrays else 'zip archive'}, but not a PyTorch checkpoint.",
            "Give a file written by torch.save.",
        )


def explain(place: Path, error: Exception, *, is_archive: bool) -> InputError:
    """Return the error for a file that torch cannot read although no damage was detected."""
    reason = str(error)
    if is_archive:
        return _of_archive(place, reason)
    if "UntypedStorage" in reason:
        return InputError(
            f"{place} holds numbers, such as float8, that torch cannot read from files in its old format: weights must be "
            "real floating-point numbers.",
            "Save it as float32 or bfloat16.",
        )
    return _needs_code(place, reason, _BLOCKED.findall(reason)) or damaged(place)


def _of_archive(place: Path, reason: str) -> InputError:
    if "TorchScript" in reason:
        return InputError(
            f"{place} is a TorchScript archive, not weights.", "Save model.state_dict() and name the model with --model."
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(STAND_INS)):
            warnings.simplefilter("ignore")
            blocked = torch.serialization.get_unsafe_globals_in_checkpoint(str(place))
    except Exception:  # This function of torch may fail for the same reason as its reader.
        blocked = []
    return _needs_code(place, reason, blocked or _BLOCKED.findall(reason)) or damaged(place)


def _needs_code(place: Path, reason: str, blocked: list[str]) -> InputError | None:
    """Return the error for content of an undamaged file that cannot be read; None if the reason does not mean this."""
    if "DTensor" in reason:
        return InputError(
            f"{place} holds tensors that are spread over several devices (DTensor).",
            "Gather them before saving, such as with get_model_state_dict and full_state_dict=True.",
        )
    if "Unsupported operand" in reason:
        return InputError(
            f"{place} was written with a pickle protocol that cannot be read without running code.",
            "Save it without pickle_protocol, or as safetensors.",
        )
    if not blocked and not any(words in reason for words in _OF_CODE):
        return None
    named = ", ".join(name.rstrip(".")[:_LONGEST] for name in dict.fromkeys(blocked[:5]))
    return CodeNeededError(
        f"{place} can be opened only by running code that it contains{f' ({named})' if named else ''}.",
        f"{_SAVE_WEIGHTS}.",
    )
