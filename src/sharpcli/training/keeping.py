"""What keeps a run safe: the state to resume from, refused where it is another run's, and saves that may fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sharpcli import files, progress
from sharpcli.checkpoints import STATE
from sharpcli.errors import InputError, SettingsError


def write_state(folder: Path, identity: dict[str, Any], parts: dict[str, Any], device: torch.device) -> None:
    """Write what is needed to go on as if nothing had happened: parts of the run, and the state of the random numbers.

    Raises:
        InputError: It cannot be written.
    """
    state = {"identity": identity, "random": torch.get_rng_state(), **parts}
    if device.type == "cuda":
        state["cuda_random"] = torch.cuda.get_rng_state(device)
    files.write_object(folder / STATE, state, durable=True)


def read_state(folder: Path, identity: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the parts of the run that were written last, and set the random numbers back.

    Raises:
        SettingsError: They belong to another model, data, recipe or seed.
    """
    state = files.read_object(folder / STATE)
    saved = state.get("identity") if isinstance(state, dict) else None
    refuse_other(folder, saved if isinstance(saved, dict) else {}, identity)
    torch.set_rng_state(state["random"])
    if "cuda_random" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_random"], device)
    return dict(state)


def forget_state(folder: Path) -> None:
    """Remove the state to resume from."""
    (folder / STATE).unlink(missing_ok=True)


def attempt(write: Callable[[], None], what: str) -> None:
    """Write something that the run can do without; a full disk loses no more than that."""
    try:
        write()
    except InputError as error:
        progress.warn(f"Could not save {what}, and trained on: {error.message}")


def refuse_other(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to continue a run that was made with other settings.

    Raises:
        SettingsError: They differ; what differs is named.
    """
    differing = [key for key in wanted if key != "recipe" and saved.get(key) != wanted[key]]
    differing += [key for key, value in wanted["recipe"].items() if saved.get("recipe", {}).get(key) != value]
    if differing:
        raise SettingsError(
            f"The run in {folder} was made with other settings ({', '.join(differing)}).",
            "Resume it with the command line that started it, or use --overwrite.",
        )
