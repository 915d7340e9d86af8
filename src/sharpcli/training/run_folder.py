"""The folder of a run: its files, their replacement, and the disk space that they need."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypedDict

from sharpcli import files
from sharpcli.checkpoints import LAST_GOOD, SETTINGS, STATE
from sharpcli.errors import InputError, SettingsError
from sharpcli.launch import is_follower
from sharpcli.settings.train import AVERAGES
from sharpcli.training.plan import TrainingPlan
from sharpcli.training.records import NAMES

_ASIDE = ".replaced"
_AVERAGES = tuple(f"{kind}.pt" for kind in AVERAGES)
_RECORDS = tuple(f"{name}.jsonl" for name in NAMES)
_OWN = ("final.pt", "init.pt", STATE, LAST_GOOD, "step-*.pt", SETTINGS, *_AVERAGES, *_RECORDS)
_MEBIBYTE = 2**20


def refuse_to_overwrite(place: Path) -> None:
    """Raise SettingsError if the folder holds a run or any checkpoint file, or is inside the folder of a run."""
    if (place.parent / SETTINGS).exists():
        raise SettingsError(
            f"The folder {place.parent} is that of a run, so it cannot hold others.",
            f"Use --resume to continue that run, or --out {place.parent.parent} --overwrite to replace it.",
        )
    if (place / SETTINGS).exists() or any(place.glob("*.pt")):
        raise SettingsError(
            f"The folder {place} already holds a run.",
            "Use --overwrite to replace it, --resume to continue it, or another --out.",
        )


def require_room(place: Path, plan: TrainingPlan, weights: int) -> None:
    """Refuse to start a run whose files would not fit on the disk.

    Args:
        place: Folder of the run; it need not exist.
        plan: Gives the files that the run will save.
        weights: Bytes of one checkpoint.

    Raises:
        InputError: The files would not fit.
    """
    steps = plan.updates // plan.save_every if plan.save_every else 0
    slots = 1 if plan.optimizer == "sgd" else 2
    # Initial and last good weights, and averages; steps and final weights with the optimizer's state; and the state to resume
    # from twice, because old and new state exist during a save.
    needed = weights * (2 + len(plan.average) + (1 + steps) * (1 + slots) + 2 * (1 + slots + 2 * len(plan.average)))
    nearest = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    if needed > free:
        raise InputError(
            f"The run in {place} may take {needed / _MEBIBYTE:.0f} MiB, but only {free / _MEBIBYTE:.0f} MiB are free there.",
            "Free some space, save fewer steps with a larger --save-every, or choose another --out.",
        )


def set_aside(place: Path) -> None:
    """Move the old run aside until the new run is complete; if the old run is incomplete, delete it."""
    if is_follower():
        return
    if (place / "final.pt").exists():
        aside = place / _ASIDE
        aside.mkdir(exist_ok=True)
        _discard(aside)
        for path in _own_files(place):
            path.rename(aside / path.name)
    else:
        _discard(place)


def forget_aside(place: Path) -> None:
    """Delete the run that was moved aside."""
    aside = place / _ASIDE
    if aside.is_dir() and not is_follower():
        _discard(aside)
        aside.rmdir()


class _Taken(TypedDict):
    """The fields that are used of a line of metrics.jsonl."""

    seconds: float


def seconds_of(place: Path) -> float:
    """Return the seconds that a run had taken at its last evaluation, over all sessions; 0 if this is not known."""
    try:
        return files.read_lines(place / "metrics.jsonl", _Taken, "")[-1]["seconds"]
    except (InputError, LookupError):
        return 0.0


def _own_files(place: Path) -> list[Path]:
    """Return the files that a run has written into its folder; all other files belong to the user."""
    return [path for pattern in _OWN for path in place.glob(pattern)]


def _discard(place: Path) -> None:
    for path in _own_files(place):
        path.unlink()
