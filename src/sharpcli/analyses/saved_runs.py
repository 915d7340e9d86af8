"""The saved steps of a run, for analyses along it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sharpcli.checkpoints import Checkpoint, read, whole_run
from sharpcli.errors import InputError, SettingsError
from sharpcli.loading import LiveModel, Place


def saved_places(place: Place, steps_of: Callable[[Path, Checkpoint], list[Checkpoint]] = whole_run) -> list[Path]:
    """Return the files of a run folder: by default the initial weights, then the saved steps in order.

    Raises:
        InputError: It is not a run folder with saved steps.
        SettingsError: It is a model in memory.
    """
    if isinstance(place, LiveModel):
        raise SettingsError("A model in memory has no saved steps.", "Give run folders.")
    steps = steps_of(Path(place), read(place))
    if not steps:
        raise InputError(
            f"{place} is not a run folder with saved steps.", "Train with --save-every N, and name the folder of one mode."
        )
    return [step.path for step in steps]
