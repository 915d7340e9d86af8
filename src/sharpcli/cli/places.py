"""Output files: checked before the work starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from sharpcli.errors import InputError, SettingsError

_PICTURES = (b"\x89PNG", b"%PDF", b"<?xml", b"\xff\xd8")


def check_place(path: Path, answer: TextIO | None = None) -> None:
    """Refuse an output file that cannot be written, or to which stdout is redirected.

    Args:
        path: The file.
        answer: The stream for results; None if it is not compared with the file.

    Raises:
        InputError: The file cannot be written, or stdout is redirected to it.
    """
    from sharpcli.files import destination, from_root

    place = destination(from_root(path))
    nearest = next(folder for folder in place.parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"Cannot write {path}: {nearest} is not a writable folder.", "Choose another place.")
    if answer is not None and place.exists() and _is_same(place, answer):
        raise InputError(f"Cannot write {path}: stdout is redirected to it.", "Choose another place.")


def check_plot(plot: Path, vectors: str | None) -> None:
    """Refuse a plot that would replace another output, or a file that is not a picture, such as the checkpoint.

    Args:
        plot: Absolute path of the plot.
        vectors: Path of the eigenvectors, if they are written.

    Raises:
        SettingsError: The plot would replace such a file.
    """
    from sharpcli.files import from_root

    if vectors and from_root(vectors) == plot:
        raise SettingsError(f"--plot and --vectors are both {plot.name}.", "Give two different files.")
    try:
        if not plot.is_file():
            return
        with plot.open("rb") as file:
            begin = file.read(512)
    except OSError:
        return  # Writing the plot reports the error.
    if begin and not begin.startswith(_PICTURES) and b"<svg" not in begin:
        raise SettingsError(f"{plot} is not a picture, and --plot would replace it.", "Give --plot another name.")


def _is_same(place: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):
        return False
