"""Read arrays from npz files; objects in them are never unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from sharpcli.errors import InputError, first_line
from sharpcli.files._archive import require_sound
from sharpcli.files._opened import opened

_END = ".npy"  # End of the names of members.
_ONE = b"\x93NUMPY"  # Start of a file with a single array.


def read_arrays(place: Path, choose: Callable[[list[str]], Iterable[str]] = list) -> dict[str, NDArray[Any]]:
    """Read arrays of an npz file by name.

    Args:
        place: The file.
        choose: Function from the available names to the names to read; it may raise an error.

    Raises:
        InputError: The file cannot be read, is damaged, or an array holds Python objects.
    """
    with opened(place) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy and zipfile warn about content that is refused or harmless.
        try:
            if file.read(len(_ONE)) == _ONE:
                raise InputError(f"'{place}' holds one array, not named arrays.", "Use numpy.savez.")
            with zipfile.ZipFile(file) as archive:
                require_sound(place, archive, packed=True)
                names = [name.removesuffix(_END) for name in archive.namelist()]
                return {name: _member(archive, name) for name in choose(names)}
        except InputError:
            raise
        except Exception as error:  # zipfile, decompressors and numpy raise many kinds of errors.
            hint = "Write plain arrays of numbers with numpy.savez; pickled objects are refused."
            raise InputError(f"'{place}' cannot be read as an npz file: {first_line(error)}.", hint) from error


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}{_END}") as member:
        array: NDArray[Any] = numpy.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # Read to the end, so that the checksum is verified.
            raise ValueError(f"{name} holds more numbers than its shape says")
    return array
