"""Read PyTorch and safetensors files; the error for a file that cannot be read says what the file is."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.files._archive import damaged, require_whole
from sharpcli.files._inert import STAND_INS
from sharpcli.files._opened import opened
from sharpcli.files._pickles import require_bounded
from sharpcli.files._refusals import explain, require_container, require_weights


def read_object(place: Path) -> Any:
    """Read plain tensors, numbers, text and the inert types of `_inert`, which are replaced by stand-ins.

    One open file is used for all checks: a damaged file is not opened again for the error message.

    Raises:
        InputError: The file is missing, damaged, no PyTorch file, or needs code to be read.
    """
    with opened(place) as file:
        head = require_weights(place, file)
        is_archive = require_container(place, file, head)
        if is_archive:
            require_whole(place, file)
        require_bounded(place, file if is_archive else _from_start(file), is_archive=is_archive)
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(list(STAND_INS)):
                warnings.simplefilter("ignore")  # The causes of the warnings are refused below, with our own messages.
                # Given a path, torch reads an archive with its own reader, which is faster.
                source = str(place) if is_archive else _from_start(file)
                content = torch.load(source, map_location="cpu", weights_only=True)
                # The old format has no checksums. For a storage that is not listed, torch returns uninitialized memory.
                whole = is_archive or file.tell() == os.fstat(file.fileno()).st_size
        except Exception as error:  # torch raises a dozen kinds for files it cannot read
            raise explain(place, error, is_archive=is_archive) from error
    if not whole:
        raise damaged(place)
    return content


def _from_start(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def is_safetensors(place: Path) -> bool:
    """Return whether a file is a safetensors file, by its ending or its content: the length of a JSON header, the header."""
    if place.suffix == ".safetensors":
        return True
    with opened(place) as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < place.stat().st_size


def is_pytorch(place: Path) -> bool:
    """Return whether torch.save may have written a file, by its first bytes: those of a zip archive or a pickle."""
    with opened(place) as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def safetensors_metadata(place: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; {} for any other file."""
    try:
        with safe_open(place, framework="pt") as file:
            return dict(file.metadata() or {})
    except Exception:  # Any other file; safetensors raises errors of several kinds.
        return {}


def read_safetensors(place: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name.

    Raises:
        InputError: The file is damaged or of another kind.
    """
    with opened(place) as file:
        require_weights(place, file)
    try:
        return dict(load_file(place))
    except Exception as error:  # Errors of safetensors, and of torch for impossible types and sizes.
        raise InputError(f"{place} is not a readable safetensors file.", "It may be cut short; copy it again.") from error
