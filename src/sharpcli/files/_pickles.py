"""Check the types that a pickle creates: its instructions are read, but not executed."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

from sharpcli.errors import InputError

_UNBOUNDED = "bytearray"  # The only type that torch creates and that a few bytes can create at any size.
_PICKLES = 5  # Number of pickles at the start of a file of the old format.


def require_bounded(place: Path, file: BinaryIO, *, is_archive: bool) -> None:
    """Refuse a file that may need any amount of memory.

    Raises:
        InputError: The file contains a type that can be of any size.
    """
    for content in _of_archive(file) if is_archive else [file]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # About invalid escapes in strings.
                has_names = any(_names(content) for _ in range(1 if is_archive else _PICKLES))
        except Exception:  # The pickle is incomplete: torch stops there as well.
            continue
        if has_names:
            raise InputError(
                f"{place} contains a {_UNBOUNDED}, which can need any amount of memory, even if the file is small.",
                "Save the weights alone: torch.save(model.state_dict(), ...).",
            )


def _of_archive(file: BinaryIO) -> list[BinaryIO]:
    with zipfile.ZipFile(file) as archive:
        pickles = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    return [io.BytesIO(content) for content in pickles if _UNBOUNDED.encode() in content]


def _names(content: BinaryIO) -> bool:
    """Return whether the next pickle names the type."""
    return any(
        code.name == "GLOBAL" and str(argument).endswith(f" {_UNBOUNDED}") for code, argument, _ in pickletools.genops(content)
    )
