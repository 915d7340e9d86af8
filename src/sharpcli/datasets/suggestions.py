"""Hints for a value of --data that is the path of a file or folder instead of the name of a data set."""

from __future__ import annotations

import os

from sharpcli.code_specs import FILES
from sharpcli.errors import InputError

_ENDINGS = {".npz": "npz", ".csv": "csv", ".npy": "tokens", ".pt": "pt", ".pth": "pt"}


def suggestion(spec: str) -> str:
    """Return a hint for a spec that looks like a path, by its ending or because the path exists; "" for any other spec."""
    path = os.path.expanduser(spec)  # Unlike a Path, this function accepts any text.
    scheme = _ENDINGS.get(os.path.splitext(spec.lower())[1])
    if scheme is not None and ":" not in spec:
        return f"Did you mean {scheme}:{spec}?"
    if os.path.isdir(path):
        return f"Did you mean folder:{spec}?"
    if spec.lower().endswith(".py"):
        return f"Name the function in it that returns the data: {spec}:FUNCTION."
    return "Arrays are read from a file that numpy.savez wrote: npz:FILE." if os.path.isfile(path) else ""


def require_kind(name: str, path: str) -> None:
    """Refuse a folder after `npz:` or another prefix of a file, and a file after `folder:`.

    Raises:
        InputError: `path` is a folder instead of a file, or a file instead of a folder.
    """
    if name in FILES and os.path.isdir(path):
        raise InputError(f"'{path}' is a folder, not a file of {name}:.", f"Did you mean folder:{path}?")
    if name == "folder" and os.path.isfile(path):
        raise InputError(f"'{path}' is a file, not a folder.", suggestion(path))
