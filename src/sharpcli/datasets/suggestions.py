"""What somebody meant who named a file or a folder as a data set."""

from __future__ import annotations

import os

from sharpcli.errors import InputError


def meant(spec: str) -> str:
    """Return a hint for a spec that is no data set but a path, or "" if it is none."""
    place = os.path.expanduser(spec)  # Unlike a Path, it takes any text.
    if spec.lower().endswith(".npz"):
        return f"Did you mean npz:{spec}?"
    if os.path.isdir(place):
        return f"Did you mean folder:{spec}?"
    return "Arrays are read from a file that numpy.savez wrote: npz:FILE." if os.path.isfile(place) else ""


def require_kind(name: str, place: str) -> None:
    """Refuse a folder behind `npz:` and a file behind `folder:`.

    Raises:
        InputError: It is one of them.
    """
    if name == "npz" and os.path.isdir(place):
        raise InputError(f"'{place}' is a folder, not an npz file.", f"Did you mean folder:{place}?")
    if name == "folder" and os.path.isfile(place):
        raise InputError(f"'{place}' is a file, not a folder.", meant(place))
