"""Names of tensors in a file against names in a model: what wrappers put into a name is taken out, where then all fit."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from sharpcli.checkpoints._sets import EXTRA_STATE

# Parts of a name that wrappers add: parallel and sharded training, compilation, activation checkpointing, training modules.
_WRAPPERS = frozenset(
    {"module", "_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
_HOLDERS = frozenset({"model", "net", "network"})  # A training module calls what it trains so; a model may call its parts so.
# What training adds to a state dict beside the model: of an average, of the loss, of tools that count operations.
_STRAYS = (
    "n_averaged",
    *(f"{before}{loss}.*" for before in ("", "*.") for loss in ("criterion", "loss", "loss_fn", "loss_func", "loss_function")),
    f"*{EXTRA_STATE}",
    "*total_ops",
    "*total_params",
)


def is_stray(name: str) -> bool:
    """Tell whether a name is of something that training adds and that no model answers with."""
    return any(fnmatchcase(name, pattern) for pattern in _STRAYS)


def renamings(names: Collection[str], wanted: Collection[str], modules: Collection[str]) -> Iterator[dict[str, str]]:
    """Yield ways to rename the tensors of a file as a model names them, the plainest first; each is one to one.

    Args:
        names: Those of the file.
        wanted: Those of the model.
        modules: Paths of the model's modules; a tensor of the file may be one that a module knows how to convert.
    """
    yield {name: name for name in names}
    for renaming in (
        _without_wrappers(names, wanted, modules, _WRAPPERS),
        _without_wrappers(names, wanted, modules, _WRAPPERS | _HOLDERS),
        _without_prefix(names, wanted),
    ):
        if renaming is not None and len(set(renaming.values())) == len(renaming):
            yield renaming


def _without_wrappers(
    names: Collection[str], wanted: Collection[str], modules: Collection[str], wrappers: Collection[str]
) -> dict[str, str]:
    """Match names that are the same but for parts that wrappers add, in the file or in the model."""
    places: dict[str, list[str]] = {}
    for path in modules:
        places.setdefault(_bare(path, wrappers), []).append(path)
    shortened = {}
    for name in names:
        owner, _, leaf = name.rpartition(".")
        here = [f"{path}.{leaf}" if path else leaf for path in places.get(_bare(owner, wrappers), ())]
        exact = [choice for choice in here if choice in wanted]
        choices = exact or here
        shortened[name] = choices[0] if len(choices) == 1 else name
    return shortened


def _bare(path: str, wrappers: Collection[str]) -> str:
    return ".".join(part for part in path.split(".") if part not in wrappers)


def _without_prefix(names: Collection[str], wanted: Collection[str]) -> dict[str, str] | None:
    """Take one word, whatever it is, off the front of all names that are no strays."""
    kept = [name for name in names if not is_stray(name)]
    prefix = os.path.commonprefix(kept).rpartition(".")[0]
    while prefix and not any(name.removeprefix(f"{prefix}.") in wanted for name in kept):
        prefix = prefix.rpartition(".")[0]
    if not prefix:
        return None
    return {name: name.removeprefix(f"{prefix}.") if name in kept else name for name in names}


def aligned(names: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """Return which name of one file is which of another, as far as they are the same but for wrappers."""
    if set(wanted) <= set(names):
        return {name: name for name in names}
    modules = {name.rpartition(".")[0] for name in wanted}
    ways = list(renamings(names, wanted, modules))
    return max(ways, key=lambda way: len(set(way.values()) & set(wanted)))
