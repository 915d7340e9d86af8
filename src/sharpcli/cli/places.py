"""Files that are to be written: refused before the work where that cannot succeed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from sharpcli.errors import InputError, SettingsError

_PICTURES = (b"\x89PNG", b"%PDF", b"<?xml", b"\xff\xd8")


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


def check_plot(plot: Path, vectors: str | None) -> None:
    """Refuse a plot in the place of another output, or of a file that is no picture, such as the checkpoint itself.

    Args:
        plot: From the root.
        vectors: Where eigenvectors go, if anywhere.

    Raises:
        SettingsError: It would replace one.
    """
    from sharpcli.files import from_root

    if vectors and from_root(vectors) == plot:
        raise SettingsError(f"--plot and --vectors are both {plot.name}.", "Give each a file of its own.")
    try:
        if not plot.is_file():
            return
        with plot.open("rb") as file:
            begin = file.read(512)
    except OSError:
        return  # Told where it is written.
    if begin and not begin.startswith(_PICTURES) and b"<svg" not in begin:
        raise SettingsError(f"{plot} is no picture, and --plot would replace it.", "Give --plot another name.")


def _is_same(place: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):
        return False
