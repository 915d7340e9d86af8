"""Folders of torch.distributed.checkpoint: a description of the tensors, and their parts in the files of each process."""

from __future__ import annotations

import io
import itertools
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpcli import files
from sharpcli.errors import InputError

METADATA = ".metadata"
_MODULE = "torch.distributed.checkpoint"
_NAMES = frozenset(
    {
        *(f"{_MODULE}.metadata.{name}" for name in ("Metadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING")),
        *(f"{_MODULE}.metadata.{kind}StorageMetadata" for kind in ("Tensor", "Bytes", "Chunk")),
        f"{_MODULE}.metadata.TensorProperties",
        f"{_MODULE}.filesystem._StorageInfo",
        f"{_MODULE}.filesystem._StoragePrefix",
        "torch.serialization._get_layout",
        *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath", "Path")),
    }
)
_HINT = "Convert it with torch.distributed.checkpoint.format_utils.dcp_to_torch_save, and give that file."
_OPTIMIZERS = ("optim", "optimizer", "optimizers", "optimizer_states")


def is_distributed(folder: Path) -> bool:
    """Return whether a folder was written by torch.distributed.checkpoint."""
    return (folder / METADATA).is_file()


def read_distributed(folder: Path) -> dict[str, Any]:
    """Return the tensors of a folder in the nested dictionaries that were saved, without those of optimizers.

    Raises:
        InputError: The description or a file is missing or damaged, or a tensor is compressed or incomplete.
    """

    def weight(path: tuple[Any, ...], known: dict[str, Any]) -> bool:
        return "chunks" in known and not _is_of_optimizer(path)

    return _read(folder, weight, lambda path: tuple(map(str, path)))


def read_distributed_optimizer(folder: Path) -> dict[str, Any]:
    """Return what a folder holds of optimizers, tensors and options, in the nested dictionaries that were saved.

    Raises:
        InputError: As for `read_distributed`.
    """

    def kept(path: tuple[Any, ...], known: dict[str, Any]) -> bool:  # noqa: ARG001
        return _is_of_optimizer(path)

    content = _read(folder, kept, lambda path: path)
    for part in content.values():
        if isinstance(part, dict) and "param_groups" in part:
            _restore(part)
    return content


def _restore(optimizer: dict[str, Any]) -> None:
    """Restore what torch.distributed.checkpoint changes in the state of an optimizer: numbers as keys, lists of tensors."""
    groups, state = optimizer["param_groups"], optimizer.get("state")
    if isinstance(groups, dict):  # With a tensor among the options, each option has an entry of its own.
        optimizer["param_groups"] = [groups[number] for number in sorted(groups, key=int)]
    if isinstance(state, dict):
        optimizer["state"] = {int(key) if str(key).isdecimal() else key: part for key, part in state.items()}


def _is_of_optimizer(path: tuple[Any, ...]) -> bool:
    return any(key in _OPTIMIZERS for key in path)


def _read(
    folder: Path,
    is_wanted: Callable[[tuple[Any, ...], dict[str, Any]], bool],
    named: Callable[[tuple[Any, ...]], tuple[Any, ...]],
) -> dict[str, Any]:
    """Return some of the entries of a folder in the nested dictionaries that were saved.

    Args:
        folder: The folder.
        is_wanted: Whether to read an entry, by the keys on the way to it and its description.
        named: Makes the keys of the answer from the saved ones.
    """
    place = folder / METADATA
    about = _state(files.read_plain_pickle(place, _NAMES, _HINT))
    try:
        entries, places = about["state_dict_metadata"], _places(about["storage_data"])
        paths = about.get("planner_data") or {}
        content: dict[str, Any] = {}
        for name, described in entries.items():
            path, known = tuple(paths.get(name, (name,))), _state(described)
            keys, inner = named(path), content
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            if is_wanted(path, known):
                inner[keys[-1]] = (
                    _tensor(folder, name, known, places) if "chunks" in known else _part(folder, name, places[name, ()])
                )
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{place} does not have the content of a distributed checkpoint.", _HINT) from error
    return content


def _state(record: Any) -> dict[str, Any]:
    state = getattr(record, "state", {})  # An object without fields has none.
    if not isinstance(state, dict):
        raise TypeError("not the state of an object")
    return state


def _places(storage: dict[Any, Any]) -> dict[tuple[str, tuple[int, ...]], dict[str, Any]]:
    """Return the place of each part of a tensor, by the name of the tensor and the offsets of the part in it."""
    parts = {}
    for index, place in storage.items():
        key = _state(index)
        parts[key["fqn"], tuple(key.get("offset") or ())] = _state(place)
    return parts


def _tensor(
    folder: Path, name: str, known: dict[str, Any], places: dict[tuple[str, tuple[int, ...]], dict[str, Any]]
) -> Tensor:
    """Return a tensor, put together from its parts."""
    size, chunks = tuple(known["size"]), [_state(chunk) for chunk in known["chunks"]]
    dtype = known["properties"].state[0]
    if not isinstance(dtype, torch.dtype) or not all(isinstance(length, int) and length >= 0 for length in size):
        raise TypeError("no type or no size of a tensor")
    parts = [(chunk, places[name, tuple(chunk["offsets"])]) for chunk in chunks]
    if math.prod(size) * dtype.itemsize > sum(place["length"] for _, place in parts):  # Before memory is taken for it.
        raise InputError(f"{folder} holds less of '{name}' than its size {size}.", "Copy the folder again, with all files.")
    boxes = [
        [(start, start + length) for start, length in zip(chunk["offsets"], chunk["sizes"], strict=True)] for chunk in chunks
    ]
    inside = all(0 <= low <= high <= length for box in boxes for (low, high), length in zip(box, size, strict=True))
    if not inside or any(_overlap(one, other) for one, other in itertools.combinations(boxes, 2)):
        raise InputError(f"The parts of '{name}' in {folder} do not fit together.", "Copy the folder again.")
    whole, filled = torch.empty(size, dtype=dtype), 0
    for chunk, place in parts:
        part = _part(folder, name, place)
        if not isinstance(part, Tensor):
            raise TypeError("no tensor")
        if part.shape != tuple(chunk["sizes"]) or part.dtype != dtype:
            raise InputError(f"A part of '{name}' in {folder} is not what {METADATA} says.", "Copy the folder again.")
        where = tuple(slice(start, start + length) for start, length in zip(chunk["offsets"], part.shape, strict=True))
        whole[where] = part
        filled += part.numel()
    if filled != whole.numel():
        raise InputError(f"{folder} does not hold all parts of '{name}'.", "Copy the folder again, with all files.")
    return whole


def _overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
    """Return whether two parts of a tensor, each given by its range along each axis, have numbers in common."""
    return all(max(a, c) < min(b, d) for (a, b), (c, d) in zip(one, other, strict=True))


def _part(folder: Path, name: str, place: dict[str, Any]) -> Any:
    """Return a part of a tensor, or a value that is no tensor, from the file of a process."""
    file = place["relative_path"]
    if Path(file).name != file:
        raise InputError(f"{folder / METADATA} names the file '{file}', which is not in its folder.", "Copy the folder again.")
    if place.get("transform_descriptors"):
        raise InputError(f"{folder} is compressed.", _HINT)
    with files.opened(folder / file) as source:
        end = (folder / file).stat().st_size
        if not (0 <= place["offset"] <= end and 0 <= place["length"] <= end):
            raise InputError(f"'{name}' in {folder / file} is damaged or cut short.", "Copy the folder again.")
        source.seek(place["offset"])
        content = source.read(place["length"])
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed")
        part = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for what it cannot read.
        raise InputError(f"'{name}' in {folder / file} is damaged or cut short.", "Copy the folder again.") from error
    return part
