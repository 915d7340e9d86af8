"""Open files for reading, only here and only regular files, so that nothing waits for a pipe or a device."""

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
    """Return the kind of a file by its mode, in words; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "not a regular file")


def expanded(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder; unchanged if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(place: Path) -> bool:
    """Return whether a path exists, whatever kind of file it is.

    Raises:
        InputError: The path cannot be accessed.
    """
    try:
        return place.exists()
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error


def opened(place: Path) -> BinaryIO:
    """Open a regular file for reading; it must not be empty.

    Some queues of the system look like empty regular files, and reading them would wait.

    Raises:
        InputError: It is not such a file, or cannot be opened.
    """
    try:
        status = place.stat()
        if (kind := other_kind(status.st_mode)) is not None:
            raise InputError(f"Cannot read {place}: it is {kind}.", "Name a file.")
        if not status.st_size:
            raise InputError(f"{place} is empty.", "Copy the original file again.")
        return place.open("rb")
    except (OSError, ValueError) as error:  # ValueError: the name contains a character that is not allowed.
        raise _unreadable(place, error) from error


def read_bytes(place: Path, most: int) -> bytes:
    """Return the content of a file of at most `most` bytes.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    with opened(place) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise _unreadable(place, error) from error
    if len(content) > most:
        raise InputError(f"{place} is larger than {most} bytes.", "Check that it is the right file.")
    return content


def _unreadable(place: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"Cannot read {str(place)[:500]}: {reason}.", "Check the path and its permissions.")
