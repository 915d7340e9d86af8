"""List all files below a folder; the search ends for all kinds of links."""

from __future__ import annotations

import os
from pathlib import Path

from sharpcli.errors import InputError

_MOST = 2_000_000  # Files and folders.


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders that are directly in a folder, in order.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise _unreadable(folder, error) from error


def files_below(folder: Path) -> list[str]:
    """Return the paths of everything below a folder except folders, folder by folder in the order of their names.

    Links are followed.

    Raises:
        InputError: A link leads to a folder that contains it, a folder cannot be read, or there are too many files.
    """
    listed: dict[str, list[str]] = {}
    count = 0
    ways: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(folder), frozenset())]
    try:
        while ways:
            here, above = ways.pop()
            about = os.stat(here)
            key = (about.st_dev, about.st_ino)
            if key in above:
                raise InputError(f"The folder '{here}' is a link to a folder that contains it.", "Remove the link.")
            listed[here] = []
            with os.scandir(here) as entries:
                for entry in entries:
                    count += 1
                    if count > _MOST:
                        raise InputError(f"'{folder}' holds more than {_MOST} files.", "Name a smaller folder.")
                    if entry.is_dir():
                        ways.append((entry.path, above | {key}))
                    else:
                        listed[here].append(entry.path)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return [path for here in sorted(listed) for path in sorted(listed[here])]


def _unreadable(folder: Path, error: OSError) -> InputError:
    return InputError(f"Cannot read '{folder}': {error.strerror or error}.", "Check its permissions.")
