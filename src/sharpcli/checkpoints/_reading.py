"""Read a checkpoint from a path: a checkpoint of sharpcli, a plain or wrapped state dict, or safetensors."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sharpcli import files, progress
from sharpcli.checkpoints import _sets
from sharpcli.checkpoints._checkpoint import FORMAT_VERSION, READABLE_VERSIONS, Checkpoint
from sharpcli.checkpoints._described import is_index, model_of, read_parts, weights_in
from sharpcli.checkpoints._distributed import is_distributed, read_distributed, read_distributed_optimizer
from sharpcli.checkpoints._folders import FINAL, no_weights
from sharpcli.checkpoints._metadata import own_content
from sharpcli.checkpoints._optimizer import OptimizerState, foreign_optimizer
from sharpcli.checkpoints._sets import WeightSet
from sharpcli.checkpoints._trusted import read_trusted
from sharpcli.checkpoints._types import require_readable
from sharpcli.errors import CodeNeededError, InputError

_KEY = "::"
_VERSIONS = 1000  # A larger number is not a version: the file is damaged.
_LONGEST = 100  # Characters of a key in a message.
_WEIGHTS = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors", ".pkl", ".h5")  # Endings of weights, also if damaged.
_ARRAYS = (".npz", ".npy")  # Endings of data.


def locate(path: str | Path) -> Path:
    """Return the checkpoint file that a path refers to; ::KEY after a name is removed.

    For a run folder it is final.pt, for a folder of Hugging Face the file of the weights; a folder of
    torch.distributed.checkpoint is returned itself.

    Raises:
        InputError: There is no such file.
    """
    path, _ = _address(path)
    place = files.expanded(path)
    try:
        if str(path) and place.is_dir():
            final = place / FINAL
            if final.exists():
                return final
            if (weights := weights_in(place)) is not None:
                return weights
            if is_distributed(place):
                return place
            raise no_weights(place)
    except OSError as error:
        raise InputError(f"Cannot read {place}: {error.strerror or error}.", "Check the path.") from error
    if not str(path) or not files.is_there(place):
        raise InputError(f"There is no file '{path}'.", "Check the path, or make a checkpoint with 'sharpcli train'.")
    return place


def is_something_else(path: str | Path) -> bool:
    """Return whether a path is a file that is clearly not a checkpoint, by its name and its first bytes."""
    place = files.expanded(path)
    try:
        if _KEY in str(path) or place.suffix.lower() in _WEIGHTS or not place.is_file():
            return False
        if place.suffix.lower() in _ARRAYS or not place.stat().st_size:
            return True
        return not (files.is_safetensors(place) or files.is_pytorch(place))
    except (OSError, InputError):  # The error is reported when the file is read.
        return False


def there(paths: Sequence[str | Path]) -> list[str | Path]:
    """Return the paths if each of them is an existing file or folder, before the first is processed.

    Raises:
        InputError: A path does not exist.
    """
    for path in paths:
        if not os.path.exists(files.expanded(_address(path)[0])):
            locate(path)
    return list(paths)


def read(
    path: str | Path,
    weights: str | None = None,
    *,
    preferred: str | None = None,
    ignore: Sequence[str] = (),
    allow_pickle: bool = False,
) -> Checkpoint:
    """Read a checkpoint: one of sharpcli, a plain or wrapped state dict, safetensors, or a distributed checkpoint.

    Args:
        path: File or folder; FILE::KEY names one of several sets of weights in it, and has priority over `weights`.
        weights: The set of weights to read; default: the only set.
        preferred: The set to read if there are several sets; it has no effect on a file without this set.
        ignore: Globs over the names of tensors that are left out.
        allow_pickle: Whether a file that needs code to open may run it.

    Raises:
        InputError: The file is missing, damaged, of an unknown version, holds no tensors, needs code to open, or has
            several sets of weights and none is requested.
    """
    checkpoint = _read(path, weights, preferred, allow_pickle)
    return _without(checkpoint, ignore) if ignore else checkpoint


def _without(checkpoint: Checkpoint, globs: Sequence[str]) -> Checkpoint:
    """Leave out the tensors whose names match a glob."""
    matches = {glob: [name for name in checkpoint.state if fnmatch.fnmatchcase(name, glob)] for glob in globs}
    for glob, names in matches.items():
        if not names:
            shown = ", ".join(f"'{name}'" for name in list(checkpoint.state)[:5])
            more = f" and {len(checkpoint.state) - 5} more" if len(checkpoint.state) > 5 else ""
            hint = f"Its tensors are {shown}{more}."
            raise InputError(f"No tensor in {checkpoint.path} matches --ignore-keys '{glob}'.", hint)
    ignored = {name for names in matches.values() for name in names}
    state = {name: tensor for name, tensor in checkpoint.state.items() if name not in ignored}
    if not state:
        raise InputError(f"--ignore-keys leaves no tensor of {checkpoint.path}.", "Leave out fewer.")
    progress.warn(f"{checkpoint.path}: {len(ignored)} of {len(checkpoint.state)} tensors are left out by --ignore-keys.")
    return replace(checkpoint, state=state, left_out=(*checkpoint.left_out, *sorted(ignored)))


def _read(path: str | Path, weights: str | None, preferred: str | None, allow_pickle: bool) -> Checkpoint:
    place = locate(path)
    wanted = _address(path)[1] or weights
    if place.is_dir():
        content = read_distributed(place)
        sets = _sets.find(content)
        if not sets:
            raise _no_weights(place, content)
        chosen = wanted or _preferred(sets, preferred)
        return _taken(place, "distributed checkpoint", sets, content, chosen, partial(_distributed_optimizer, place))
    if is_index(place):
        return _taken(place, "weights in several files", [WeightSet("", read_parts(place))], None, wanted)
    if files.is_safetensors(place):
        return _taken(place, "safetensors", [WeightSet("", files.read_safetensors(place))], None, wanted)
    try:
        content = files.read_object(place)
    except CodeNeededError as error:
        if not allow_pickle:
            error.hint = f"{error.hint} If you trust the file, --allow-pickle opens it: it can then run any code."
            raise
        content = read_trusted(place)
    if isinstance(content, dict) and isinstance(content.get("format"), str) and content["format"] == "sharpcli":
        version = content.get("format_version")
        if type(version) is int and version not in READABLE_VERSIONS and abs(version) < _VERSIONS:
            raise InputError(
                f"{place} has checkpoint format {version}; this sharpcli reads formats 1 to {FORMAT_VERSION}.",
                "Install the version of sharpcli that wrote it.",
            )
        state, metadata, optimizer = own_content(place, content)
        require_readable(place, state)
        if wanted is not None:
            _sets.choose(place, [WeightSet("", state)], wanted)
        return Checkpoint(place, state, metadata, optimizer_of=lambda: optimizer)
    sets = _sets.find(content)
    if not sets:
        raise _no_weights(place, content)
    return _taken(place, None, sets, content, wanted or _preferred(sets, preferred))


def _distributed_optimizer(folder: Path) -> OptimizerState | None:
    return foreign_optimizer(read_distributed_optimizer(folder))


def _preferred(sets: list[WeightSet], preferred: str | None) -> str | None:
    """Return the preferred set if it is one of several sets."""
    return preferred if len(sets) > 1 and any(one.key == preferred for one in sets) else None


def _address(path: str | Path) -> tuple[str | Path, str | None]:
    """Split FILE::KEY, unless there is a file with this full name."""
    file, separator, key = str(path).rpartition(_KEY)
    if not separator or not file or not key or files.is_there(Path(path)):
        return path, None
    return file, key


def _taken(
    place: Path,
    container: str | None,
    sets: list[WeightSet],
    content: Any,
    wanted: str | None,
    optimizer_of: Callable[[], OptimizerState | None] | None = None,
) -> Checkpoint:
    """Make a checkpoint of one set of weights, and name other entries that may be part of the function.

    Args:
        place: The file or the folder.
        container: Its kind in words; None for a state dict.
        sets: The sets of weights in it.
        content: All that it contains, as far as it was read.
        wanted: The set to use; None for the only one.
        optimizer_of: Reads the state of the optimizer; None if it is in `content`, if there is one.
    """
    one = _sets.choose(place, sets, wanted)
    optimizer = foreign_optimizer(content)
    require_readable(place, one.tensors)
    left_out = tuple(name[:_LONGEST] for name in (*one.left_out, *_sets.beside(content, one if one in sets else sets[0])))
    if left_out:
        listed = ", ".join(f"'{name}'" for name in left_out[:5])
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        progress.warn(f"{place} contains more than weights; left out: {listed}{more}.")
    kind = container or (f"state dict under '{one.key}'" if one.key else "state dict")
    several = len(sets) > 1 or one not in sets
    return Checkpoint(
        place,
        one.tensors,
        metadata=model_of(place, content),
        container=kind,
        weights=one.key or None,
        chosen=several and bool(one.key),
        left_out=left_out,
        optimizer_of=optimizer_of or (lambda: optimizer),
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
    names = (
        [key if isinstance(key, str) else type(key).__name__ for key in list(content)[:8]] if isinstance(content, dict) else ()
    )
    keys = ", ".join(name[:_LONGEST] for name in names) if isinstance(content, dict) else type(content).__name__
    return InputError(
        f"{place} holds no state dict (found: {keys or 'nothing'}).",
        "sharpcli looks for weights at the top level and in nested dictionaries. Save model.state_dict().",
    )
