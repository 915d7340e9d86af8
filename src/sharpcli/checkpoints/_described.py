"""Files of other libraries that name their model, and weights in several files; code in them is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor

from sharpcli import files
from sharpcli.errors import InputError

_CONFIG = "config.json"
_INDEX = ".index.json"
# Names of weights in a folder of Hugging Face, the safe kind first.
WEIGHTS_IN_FOLDER = ("model.safetensors", f"model.safetensors{_INDEX}", "pytorch_model.bin", f"pytorch_model.bin{_INDEX}")
_DAMAGED = "Copy the folder again."


class _Index(TypedDict):
    """The part of an index that is used: the file of each tensor."""

    weight_map: dict[str, str]


def weights_in(folder: Path) -> Path | None:
    """Return the weights, or the index of weights, in a folder of Hugging Face; None if there are none."""
    return next((folder / name for name in WEIGHTS_IN_FOLDER if files.is_there(folder / name)), None)


def is_index(path: Path) -> bool:
    """Return whether a file lists the files of weights in several parts, by its name."""
    return path.name.endswith(_INDEX)


def read_parts(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all files that an index lists.

    Raises:
        InputError: The index or a file is missing or damaged, or a file is in another folder or lacks a tensor.
    """
    places = files.read_json(index, _Index, _DAMAGED)["weight_map"]
    tensors: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        if Path(name).name != name:
            raise InputError(f"{index} names the file '{name}', which is not in its folder.", _DAMAGED)
        path = index.parent / name
        if not files.is_there(path):
            raise InputError(f"{index} names the file '{name}', which is missing.", _DAMAGED)
        content = files.read_safetensors(path) if files.is_safetensors(path) else files.read_object(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} contains no named tensors.", _DAMAGED)
        lacking = [tensor for tensor, place in places.items() if place == name and tensor not in content]
        if lacking:
            raise InputError(f"{path} does not contain the tensor '{lacking[0]}' that {index.name} lists for it.", _DAMAGED)
        tensors |= {tensor: content[tensor] for tensor, place in places.items() if place == name}
    return tensors


def model_of(path: Path, content: Any) -> dict[str, Any]:
    """Return {"model": ...} for a file that names its model in a library, else {}.

    Hugging Face writes a config.json next to the weights. Training files of timm have "arch", "args" and "version". A file
    of Lightning names no class, but its arguments: {"hyper_parameters": ...}.
    """
    if path.name in WEIGHTS_IN_FOLDER and (path.parent / _CONFIG).is_file():
        return {"model": {"spec": "hf"}}
    of_timm = isinstance(content, dict) and {"arch", "args", "version", "state_dict"} <= content.keys()
    if of_timm and isinstance(content["arch"], str):
        return {"model": {"spec": f"timm:{content['arch']}"}}
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        return {"hyper_parameters": _plain_entries(content.get("hyper_parameters"))}
    return {}


def _plain_entries(entries: Any) -> dict[str, Any]:
    """Return the entries of a dictionary that are numbers, texts, or lists of these."""
    named = entries.items() if isinstance(entries, dict) else ()
    return {name: value for name, value in named if isinstance(name, str) and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
