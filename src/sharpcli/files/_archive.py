"""Check zip archives of torch.save and numpy.savez: the directory is compared with the file before the archive is used."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

from sharpcli.errors import InputError

_ENCRYPTED = 1  # A bit of a member's flags.
_SMALL, _TIMES = 2**30, 100  # Members may unpack to _SMALL bytes, or to _TIMES × the size of the file if that is larger.


def require_whole(place: Path, file: BinaryIO) -> list[str]:
    """Read an entire archive of torch.save and return its member names; torch itself does not verify the checksums.

    Raises:
        InputError: It is damaged, or another program has compressed it.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(file) as archive:
            warnings.simplefilter("ignore")
            require_sound(place, archive, packed=False)
            if archive.testzip() is not None:
                raise damaged(place)
            return archive.namelist()
    except InputError:
        raise
    except Exception as error:  # zipfile and its decompressors raise many kinds of errors.
        raise damaged(place) from error


def damaged(place: Path) -> InputError:
    """Return the error for a damaged or incomplete file."""
    return InputError(f"{place} is damaged or cut short.", "Copy the original file again.")


def require_sound(place: Path, archive: zipfile.ZipFile, *, packed: bool) -> None:
    """Refuse an archive with an invalid directory, before its members are read.

    Args:
        place: The path, for messages.
        archive: The open archive.
        packed: Whether members may be compressed, as numpy.savez_compressed does; torch.save never compresses.

    Raises:
        InputError: The directory has impossible sizes, a duplicate name or a compression that is not allowed, or the members
            unpack to too many bytes.
    """
    entries = archive.infolist()
    assert archive.fp is not None
    size = os.fstat(archive.fp.fileno()).st_size
    for entry in entries:
        stored = entry.compress_type == zipfile.ZIP_STORED
        if not stored and not (packed and entry.compress_type == zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{place} was compressed by another program: its part '{entry.filename[:100]}' has an unsupported compression.",
                "Unpack it, and pack it again without compression (zip -0), or use the original file.",
            )
        if entry.flag_bits & _ENCRYPTED or (stored and entry.compress_size != entry.file_size):
            raise damaged(place)
    if len({entry.filename for entry in entries}) < len(entries) or sum(entry.compress_size for entry in entries) > size:
        raise damaged(place)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_SMALL, _TIMES * size):
        raise InputError(
            f"{place} has {size} bytes and would unpack to {unpacked / 2**30:.1f} GiB.",
            "Store it without compression, as numpy.savez does.",
        )
