"""Read PyTorch and safetensors files; a file that cannot be read is told as what it is."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sharpcli.errors import InputError
from sharpcli.files._inert import STAND_INS
from sharpcli.files._refusals import damaged, explain, opened, require_weights


def read_object(place: Path) -> Any:
    """Read plain tensors, numbers, text and the inert types of `_inert`, which stand-ins take the place of.

    Raises:
        InputError: The file is missing, damaged, no PyTorch file, or needs code to be read.
    """
    require_weights(place)
    try:
        if zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:  # torch does not compare the sums that are stored for this.
                if archive.testzip() is not None:
                    raise damaged(place)
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(STAND_INS)):
            warnings.simplefilter("ignore")  # What they warn of is refused below, in our own words.
            return torch.load(place, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch raises a dozen kinds for files it cannot read
        raise explain(place, error) from error


def is_safetensors(place: Path) -> bool:
    """Tell by the ending or by the contents: the length of a JSON header, then the header."""
    if place.suffix == ".safetensors":
        return True
    with opened(place) as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < place.stat().st_size


def is_pytorch(place: Path) -> bool:
    """Tell by the first bytes whether torch.save may have written a file: a zip archive, or a pickle."""
    with opened(place) as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def safetensors_metadata(place: Path) -> dict[str, str]:
    """Return the words that a safetensors file holds beside its tensors; {} for any other file."""
    try:
        with safe_open(place, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def read_safetensors(place: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name.

    Raises:
        InputError: The file is damaged, or something else under that name.
    """
    require_weights(place)
    try:
        return dict(load_file(place))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{place} is not a readable safetensors file.", "It may be cut short; copy it again.") from error
