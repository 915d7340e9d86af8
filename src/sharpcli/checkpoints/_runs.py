"""Find the initial weights of the run of a checkpoint, and the saved steps of a run."""

from __future__ import annotations

from pathlib import Path

from sharpcli import files, progress
from sharpcli.checkpoints._checkpoint import LIVE, Checkpoint
from sharpcli.checkpoints._reading import read
from sharpcli.errors import InputError


def initial_weights(checkpoint: Checkpoint) -> Checkpoint:
    """Return the weights the checkpoint's run started from.

    Raises:
        InputError: The checkpoint names no initial weights, or their file is missing or has another hash.
    """
    if checkpoint.container == LIVE:
        raise InputError("The initial weights of a model in memory are not known.", "Give them with init=.")
    record = checkpoint.metadata.get("init")
    if record is None:
        raise InputError(
            f"{checkpoint.path} does not say where its initial weights are.",
            "Give them with --init FILE, or use a checkpoint made by 'sharpcli train'.",
        )
    place = checkpoint.path.parent / record["path"]
    if not files.is_there(place):
        raise InputError(
            f"The initial weights of {checkpoint.path} are not at {place} any more.", "Give them with --init FILE."
        )
    init = read(place)
    if init.sha256() != record["sha256"]:
        raise InputError(
            f"{init.path} is not the file that {checkpoint.path} started from (its hash differs).",
            "Give the right one with --init FILE.",
        )
    return init


def saved_steps(place: Path, final: Checkpoint) -> list[Checkpoint]:
    """Return the saved steps of a run in order; an empty list if `place` is not a folder or has none."""
    if not place.is_dir():
        return []
    steps = sorted((read(path) for path in place.glob("step-*.pt")), key=_step)
    if steps and steps[-1].sha256() != final.sha256():
        steps.append(final)
    return steps


def whole_run(place: Path, final: Checkpoint) -> list[Checkpoint]:
    """Return the initial weights of a run and its saved steps; an empty list if it has no saved steps.

    The initial weights are left out, with a message, if they cannot be read.
    """
    steps = saved_steps(place, final)
    if not steps or steps[0].metadata.get("step") == 0:
        return steps
    try:
        return [initial_weights(final), *steps]
    except InputError as error:
        progress.say(f"The initial weights are left out: {error.message}")
        return steps


def _step(checkpoint: Checkpoint) -> int:
    """Return the number of updates of a saved step, from its metadata or else from its file name.

    Raises:
        InputError: Neither is a number.
    """
    step = checkpoint.metadata.get("step", checkpoint.path.stem.partition("-")[2])
    try:
        return int(step)
    except (TypeError, ValueError):
        raise InputError(f"{checkpoint.path} does not say after how many updates it was saved.", "Name it step-N.pt.") from None
