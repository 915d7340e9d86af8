"""The only place where files are opened to be read: regular files alone, so nothing waits for a pipe or a device."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from sharpcli.errors import InputError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def other_kind(mode: int) -> str | None:
    """Return what is at a place by its mode, in words; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "not a regular file")


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in the place of `~`; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(place: Path) -> bool:
    """Tell whether there is anything at a place, whatever it is.

    Raises:
        InputError: It cannot be looked at.
    """
    try:
        return place.exists()
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error


def opened(place: Path) -> BinaryIO:
    """Open a regular file that is not empty, to be read.

    The system shows queues of its own, which are waited for, as regular files of no bytes.

    Raises:
        InputError: It is none, or cannot be opened.
    """
    try:
        status = place.stat()
        if (kind := other_kind(status.st_mode)) is not None:
            raise InputError(f"Cannot read {place}: it is {kind}.", "Name a file.")
        if not status.st_size:
            raise InputError(f"{place} is empty.", "Copy it again from where it was written.")
        return place.open("rb")
    except (OSError, ValueError) as error:  # ValueError: the name holds a character that no name can hold.
        raise _unreadable(place, error) from error


def read_bytes(place: Path, most: int) -> bytes:
    """Return the contents of a file of at most so many bytes.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    with opened(place) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise _unreadable(place, error) from error
    if len(content) > most:
        raise InputError(f"{place} is larger than {most} bytes.", "Check that it is the file that is meant.")
    return content


def _unreadable(place: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"Cannot read {str(place)[:500]}: {reason}.", "Check the path and its permissions.")
