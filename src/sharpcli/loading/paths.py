"""The checkpoints that a command processes: files of other kinds are left out, and the progress shows the current one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from sharpcli import checkpoints, progress
from sharpcli.errors import SettingsError
from sharpcli.loading.live import LiveModel, Place

_Place = TypeVar("_Place", bound=Place)


def require_path(place: object) -> None:
    """Refuse what is not the path of one file or folder.

    Raises:
        SettingsError: It is something else, such as a list.
    """
    if not isinstance(place, str | Path):
        raise SettingsError(f"The path of one file is needed, but a {type(place).__name__} is given.", "Give a text or a Path.")


def checkpoint_paths(places: Sequence[_Place]) -> list[_Place]:
    """Return the places without files that are not checkpoints, such as a text file in the same folder; report these files.

    If no place is a checkpoint, all places are returned, so that the command can report what is wrong with them.

    Raises:
        InputError: A file is missing. All files are checked before the first is processed.
    """
    chosen = [place for place in places if isinstance(place, LiveModel) or not checkpoints.is_something_else(place)]
    others = [str(place) for place in places if place not in chosen]
    if not chosen:
        chosen = list(places)
    elif others:
        progress.say(f"note: left out, because they are not checkpoints: {', '.join(others)}")
    checkpoints.there([place for place in chosen if not isinstance(place, LiveModel)])
    return chosen


def each_checkpoint(paths: Sequence[str | Path]) -> Iterator[str | Path]:
    """Yield the checkpoints one by one; the progress shows the current one."""
    return progress.each("checkpoint", checkpoint_paths(paths))
