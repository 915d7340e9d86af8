"""From a path to a checkpoint: ours, a plain or wrapped state dict, or safetensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sharpcli import files, progress
from sharpcli.checkpoints import _sets
from sharpcli.checkpoints._checkpoint import FORMAT_VERSION, Checkpoint
from sharpcli.checkpoints._folders import FINAL, expanded, no_weights
from sharpcli.checkpoints._sets import WeightSet
from sharpcli.checkpoints._types import require_readable
from sharpcli.errors import InputError

_KEY = "::"
_WEIGHTS = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors", ".pkl", ".h5")  # Meant as such, even if damaged.
_ARRAYS = (".npz", ".npy")  # Of data.


def locate(path: str | Path) -> Path:
    """Return the checkpoint file that a path means; a run folder means its final.pt, and ::KEY behind a name is left out.

    Raises:
        InputError: There is no such file.
    """
    path, _ = _address(path)
    place = expanded(path)
    try:
        is_folder = bool(str(path)) and place.is_dir()
        is_file = bool(str(path)) and place.is_file()
    except OSError as error:
        raise InputError(f"Cannot read {place}: {error.strerror or error}.", "Check the path.") from error
    if is_folder:
        final = place / FINAL
        if final.is_file():
            return final
        raise no_weights(place)
    if not is_file:
        raise InputError(f"There is no file '{path}'.", "Check the path, or make a checkpoint with 'sharpcli train'.")
    return place


def is_something_else(path: str | Path) -> bool:
    """Tell whether a path is a file that nobody would take for a checkpoint, by its name and its first bytes."""
    place = expanded(path)
    try:
        if _KEY in str(path) or place.suffix.lower() in _WEIGHTS or not place.is_file():
            return False
    except OSError:
        return False
    return place.suffix.lower() in _ARRAYS or not (files.is_safetensors(place) or files.is_pytorch(place))


def there(paths: Sequence[str | Path]) -> list[str | Path]:
    """Return the paths if there is a file or a folder at each, before the first is worked on.

    Raises:
        InputError: One of them is missing.
    """
    for path in paths:
        if not os.path.exists(expanded(_address(path)[0])):
            locate(path)
    return list(paths)


def read(path: str | Path, weights: str | None = None, *, preferred: str | None = None) -> Checkpoint:
    """Open a checkpoint: ours, a plain or wrapped state dict, or safetensors.

    Args:
        path: File or run folder; FILE::KEY names one of several sets of weights in it, and comes before `weights`.
        weights: Which set of weights to take; default the only one.
        preferred: Which to take where there are several; a file that has no such set is read all the same.

    Raises:
        InputError: The file is missing, damaged, of an unknown version, holds no tensors, needs code to open, or has
            several sets of weights of which none is named.
    """
    place = locate(path)
    wanted = _address(path)[1] or weights
    if files.is_safetensors(place):
        return _taken(place, "safetensors", [WeightSet("", files.read_safetensors(place))], None, wanted)
    content = files.read_object(place)
    if isinstance(content, dict) and content.get("format") == "sharpcli":
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{place} has checkpoint format {version}; this sharpcli reads format {FORMAT_VERSION}.",
                "Install the version of sharpcli that wrote it.",
            )
        own = _ours(place, content)
        if wanted is not None:
            _sets.choose(place, [WeightSet("", own.state)], wanted)
        return own
    sets = _sets.find(content)
    if not sets:
        raise _no_weights(place, content)
    if wanted is None and len(sets) > 1 and any(one.key == preferred for one in sets):
        wanted = preferred
    return _taken(place, None, sets, content, wanted)


def _address(path: str | Path) -> tuple[str | Path, str | None]:
    """Split FILE::KEY, unless there is a file of that whole name."""
    file, separator, key = str(path).rpartition(_KEY)
    if not separator or not file or not key or Path(path).exists():
        return path, None
    return file, key


def _taken(place: Path, container: str | None, sets: list[WeightSet], content: Any, wanted: str | None) -> Checkpoint:
    """Make a checkpoint of one set of weights; what else may belong to the function is named."""
    one = _sets.choose(place, sets, wanted)
    require_readable(place, one.tensors)
    left_out = (*one.left_out, *_sets.beside(content, one if one in sets else sets[0]))
    if left_out:
        listed = ", ".join(f"'{name}'" for name in left_out[:5])
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        progress.warn(f"{place} holds more than weights; left out: {listed}{more}.")
    kind = container or (f"state dict under '{one.key}'" if one.key else "state dict")
    several = len(sets) > 1 or one not in sets
    return Checkpoint(
        place, one.tensors, container=kind, weights=one.key or None, chosen=several and bool(one.key), left_out=left_out
    )


def _no_weights(place: Path, content: Any) -> InputError:
    if _sets.only_an_optimizer(content):
        return InputError(
            f"{place} holds the state of an optimizer, but no weights.", "Give the file that model.state_dict() was saved to."
        )
    if _sets.of_arrays(content):
        return InputError(
            f"The weights in {place} are NumPy arrays, not tensors.",
            "Save tensors: torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, FILE).",
        )
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
    return InputError(
        f"{place} holds no state dict (found: {keys or 'nothing'}).",
        "Weights are looked for at the top and in dictionaries within; save model.state_dict().",
    )


def _ours(place: Path, content: dict[str, Any]) -> Checkpoint:
    """Take in what `write` wrote; whoever else wrote such a file may have left something out."""
    state, metadata = content.get("state_dict"), content.get("metadata")
    sound = isinstance(state, dict) and bool(state) and all(isinstance(part, Tensor) for part in state.values())
    records: dict[str, Any] = metadata if isinstance(metadata, dict) else {"model": None}
    sound = sound and all(isinstance(records.get(key, {}), dict) for key in ("model", "data", "recipe", "final", "init"))
    sound = sound and ("init" not in records or {"path", "sha256"} <= set(records["init"]))
    if not sound or not set(records.get("parameters") or ()) <= set(state or ()):
        raise InputError(
            f"{place} says that it is a sharpcli checkpoint, but its contents are not.", "Write it again with 'sharpcli train'."
        )
    require_readable(place, state or {})
    return Checkpoint(place, state or {}, records)
