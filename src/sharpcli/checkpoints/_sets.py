"""Find the sets of weights in a file of another program; if there are several, none of them is chosen silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor

from sharpcli import files
from sharpcli.errors import InputError

_DEEPEST = 3
EXTRA_STATE = "_extra_state"
# Entries next to the weights that may contain tensors, but are not a set of weights.
_BESIDE = (
    "optim*", "*optimizer*", "*scheduler*", "scaler*", "*_scaler", "amp", "amp_*", "*rng*", "random_state*", "hyper_parameters",
    "hparams", "config*", "args*", "datamodule*", "loops", "metadata",
)  # fmt: skip
_LOSSES = ("criterion*", "loss*")
_AVERAGES = ("*shadow*", "*ema*", "*swa*", "*average*", "*params*", "*weights*")  # Stored as lists, without names.


@dataclass(frozen=True, eq=False)
class WeightSet:
    """A set of weights in a file.

    Attributes:
        key: Where it is in the file, such as "state_dict" or "ema/shadow"; "" for the top level.
        tensors: Tensors by name; empty for weights that are stored as a list, without names.
        left_out: Names of the entries that are not tensors.
    """

    key: str
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...] = ()


def find(content: Any) -> list[WeightSet]:
    """Return all sets of weights in the content of a file, in order."""
    if _is_state(content):
        return [_set("", content)]
    weight_sets = list(_inside(content, "", 1))
    if not weight_sets and _has_weights(content):
        weight_sets = [_set("", content)]
    return weight_sets


def beside(content: Any, chosen: WeightSet) -> tuple[str, ...]:
    """Return the names of tensors and of states of losses next to a set of weights: they may be part of the function."""
    if not chosen.key or not isinstance(content, Mapping):
        return ()
    top = chosen.key.partition("/")[0]
    names = [_text(name) for name, part in content.items() if name != top and isinstance(part, Tensor) and part.ndim]
    losses = [_text(name) for name, part in content.items() if _is_state(part) and _like(_text(name), _LOSSES)]
    return (*names, *losses)


def choose(place: Path, sets: list[WeightSet], wanted: str | None) -> WeightSet:
    """Return the requested set of weights, or the only set.

    Args:
        place: The file, for messages.
        sets: At least one set.
        wanted: A key; a part of exactly one key, such as "ema"; or the first part of tensor names in the only set.

    Raises:
        InputError: There are several sets and none was requested, or the request does not match exactly one set.
    """
    keys = [one.key for one in sets]
    listed = ", ".join(f"'{key}'" for key in keys)
    if wanted is None:
        if len(sets) == 1:
            return _named(place, sets[0])
        usable = next((one.key for one in reversed(sets) if one.tensors), keys[-1])
        raise InputError(
            f"{place} holds {len(sets)} sets of weights, {listed}, but none of them is selected.",
            f"Select one with --weights, such as --weights {usable}, or after the file's name: {place.name}::{usable}.",
        )
    if wanted in keys:
        return _named(place, sets[keys.index(wanted)])
    like = [one for one in sets if wanted.lower() in one.key.lower()]
    if len(like) == 1:
        return _named(place, like[0])
    if len(sets) == 1:
        part = {name[len(wanted) + 1 :]: tensor for name, tensor in sets[0].tensors.items() if name.startswith(f"{wanted}.")}
        if part:
            others = [name for name in sets[0].tensors if not name.startswith(f"{wanted}.")]
            return WeightSet(wanted, part, (*_grouped(others, wanted.count(".") + 1), *sets[0].left_out))
    which = "none of them" if not like else "several of them"
    raise InputError(
        f"'{wanted}' does not select exactly one set of weights in {place}.",
        f"It holds {listed}; the name matches {which}." if listed != "''" else "Its only set has no name: leave --weights out.",
    )


def _grouped(names: list[str], depth: int) -> tuple[str, ...]:
    """Return the first parts of names, each once, such as "ema.*"; short names are not changed."""
    parts = [name.split(".") for name in names]
    return tuple(dict.fromkeys(".".join([*part[:depth], "*"] if len(part) > depth else part) for part in parts))


def _named(place: Path, one: WeightSet) -> WeightSet:
    if one.tensors:
        return one
    if not one.key:
        raise InputError(f"{place} holds no tensors.", "Name a file that holds weights.")
    raise InputError(
        f"The weights under '{one.key}' in {place} are a list without names.",
        "Load them into a model with the tool that averaged them, and save its state dict.",
    )


def only_an_optimizer(content: Any) -> bool:
    """Return whether the content of a file is the state of an optimizer, or a dictionary with such a state in it."""
    if not isinstance(content, Mapping) or not content:
        return False
    return _is_optimizer(content) or any(_is_optimizer(part) for part in content.values())


def of_arrays(content: Any, depth: int = 1) -> bool:
    """Return whether a dictionary, or a dictionary inside it, contains only NumPy arrays."""
    if not isinstance(content, Mapping) or not content or depth > _DEEPEST:
        return False
    if all(isinstance(part, files.Array) for part in content.values()):
        return True
    parts = [part for name, part in content.items() if not _like(_text(name), (*_BESIDE, *_LOSSES))]
    return any(of_arrays(part, depth + 1) for part in parts)


def _inside(node: Any, key: str, depth: int) -> Iterator[WeightSet]:
    """Yield the sets of weights in nested dictionaries."""
    if not isinstance(node, Mapping) or depth > _DEEPEST or _is_optimizer(node):
        return
    for name, part in node.items():
        if not isinstance(name, str) or _like(name, (*_BESIDE, *_LOSSES)):
            continue
        inner = f"{key}/{_text(name)}" if key else _text(name)
        if _is_state(part) and any(_is_a_weight(tensor) for tensor in part.values()):
            yield _set(inner, part)
        elif _like(name, _AVERAGES) and isinstance(part, list | tuple) and part and all(map(_is_a_weight, part)):
            yield WeightSet(inner, {})
        else:
            yield from _inside(part, inner, depth + 1)


def _set(key: str, node: Mapping[Any, Any]) -> WeightSet:
    tensors = {_text(name): part.detach() for name, part in node.items() if isinstance(part, Tensor)}
    return WeightSet(key, tensors, tuple(_text(name) for name, part in node.items() if not isinstance(part, Tensor)))


def _text(name: object) -> str:
    """Return a key as text that can be written; a key of another type, or a very large number, is replaced by its type name."""
    short = isinstance(name, str | float) or (isinstance(name, int) and abs(name) < 2**63)
    return str(name).encode(errors="replace").decode() if short else type(name).__name__


def _is_state(node: Any) -> bool:
    """Return whether a dictionary contains only tensors, except for the extra state of modules."""
    if not isinstance(node, Mapping):
        return False
    others = [name for name, part in node.items() if not isinstance(part, Tensor)]
    return len(others) < len(node) and all(_text(name).endswith(EXTRA_STATE) for name in others)


def _has_weights(node: Any) -> bool:
    """Return whether a dictionary contains tensors with names of modules among other entries."""
    if not isinstance(node, Mapping):
        return False
    return any(isinstance(name, str) and "." in name and _is_a_weight(part) for name, part in node.items())


def _is_a_weight(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim > 0


def _is_optimizer(node: Any) -> bool:
    return isinstance(node, Mapping) and {"state", "param_groups"} <= set(node)


def _like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
