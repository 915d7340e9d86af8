"""Files that are to be written: refused before the work where that cannot succeed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from sharpcli.errors import InputError


def check_place(path: Path, answer: TextIO | None = None) -> None:
    """Refuse a file that could not be written, or that the answer itself goes to.

    Raises:
        InputError: It is not to be written.
    """
    from sharpcli.files import destination, from_root

    place = destination(from_root(path))
    nearest = next(folder for folder in place.parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"Cannot write {path}: {nearest} is no folder that can be written to.", "Choose another place.")
    if answer is not None and place.exists() and _is_same(place, answer):
        raise InputError(f"Cannot write {path}: the answer itself goes there.", "Choose another place.")


def _is_same(place: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):
        return False
