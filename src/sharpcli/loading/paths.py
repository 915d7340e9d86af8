"""The checkpoints that a command line names: files of other kinds are left out, and progress shows which is worked on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sharpcli import checkpoints, progress


def checkpoint_paths(paths: Sequence[str | Path]) -> list[str | Path]:
    """Return the paths without files that are no checkpoints, such as the text beside them, and say which those are.

    Where nothing else is named they stay, so that the command can say what is wrong with them.

    Raises:
        InputError: A file is missing; this is reported before any work.
    """
    chosen = [path for path in paths if not checkpoints.is_something_else(path)]
    others = [str(path) for path in paths if path not in chosen]
    if not chosen or not others:
        return checkpoints.there(paths)
    progress.say(f"note: left out, because they are not checkpoints: {', '.join(others)}")
    return checkpoints.there(chosen)


def each_checkpoint(paths: Sequence[str | Path]) -> Iterator[str | Path]:
    """Go through checkpoints one by one, and show which is worked on."""
    return progress.each("checkpoint", checkpoint_paths(paths))
