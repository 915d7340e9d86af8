"""Several checkpoints, one after the other: what is passed over, and which of them is worked on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sharpcli import checkpoints, progress


def chosen_paths(paths: Sequence[str | Path]) -> list[str | Path]:
    """Return the paths without files that are no checkpoints, such as the text beside them, and say which those are.

    Where nothing else is named they stay, so that the command can tell what is wrong with them.

    Raises:
        InputError: A file is missing; that is told before any work.
    """
    found = [path for path in paths if not checkpoints.is_something_else(path)]
    others = [str(path) for path in paths if path not in found]
    if not found or not others:
        return checkpoints.there(paths)
    progress.say(f"note: passed over what is no checkpoint: {', '.join(others)}")
    return checkpoints.there(found)


def several(paths: Sequence[str | Path]) -> Iterator[str | Path]:
    """Go through checkpoints one by one, and show which is worked on."""
    return progress.each("checkpoint", chosen_paths(paths))
