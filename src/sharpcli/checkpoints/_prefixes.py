"""Match the names of tensors in a file with those in a model, without the parts that wrappers add to a name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from sharpcli.checkpoints._sets import EXTRA_STATE

# Parts of a name that wrappers add: parallel and sharded training, compilation, activation checkpointing, training modules.
_WRAPPERS = frozenset(
    {"module", "_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
_HOLDERS = frozenset({"model", "net", "network"})  # Names of the model in a training module; a model may use them for parts.
# Entries that training adds to the state dict of a model: of averages, of the loss, of tools that count operations.
_LOSSES = ("criterion", "loss", "loss_fn", "loss_func", "loss_function")
_STRAYS = (
    "n_averaged",
    *(f"{before}{loss}.*" for before in ("", "*.") for loss in _LOSSES),
    f"*{EXTRA_STATE}",
    "*total_ops",
    "*total_params",
)


def is_stray(name: str) -> bool:
    """Return whether a name belongs to an entry that training adds and that does not affect the outputs of a model."""
    return any(fnmatchcase(name, pattern) for pattern in _STRAYS)


def of_a_loss(name: str) -> bool:
    """Return whether a name belongs to an entry of a loss function, such as `criterion.weight`."""
    return any(part in _LOSSES for part in name.split(".")[:-1])


def renamings(names: Collection[str], wanted: Collection[str], modules: Collection[str]) -> Iterator[dict[str, str]]:
    """Yield ways to rename the tensors of a file to the names of a model, the simplest first; each is one to one.

    Args:
        names: Names in the file.
        wanted: Names in the model.
        modules: Paths of the model's modules; a module may be able to convert a tensor whose name is not in the model.
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
    """Match names that are equal except for parts that wrappers add, in the file or in the model."""
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
    """Remove a common prefix, whatever it is, from all names that are not strays."""
    kept = [name for name in names if not is_stray(name)]
    prefix = os.path.commonprefix(kept).rpartition(".")[0]
    while prefix and not any(name.removeprefix(f"{prefix}.") in wanted for name in kept):
        prefix = prefix.rpartition(".")[0]
    if not prefix:
        return None
    return {name: name.removeprefix(f"{prefix}.") if name in kept else name for name in names}


def aligned(names: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """Map the names of one file to the names of another file that are equal except for parts that wrappers add."""
    if set(wanted) <= set(names):
        return {name: name for name in names}
    modules = {name.rpartition(".")[0] for name in wanted}
    ways = list(renamings(names, wanted, modules))
    return max(ways, key=lambda way: len(set(way.values()) & set(wanted)))
