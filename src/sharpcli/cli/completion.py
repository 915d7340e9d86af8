"""Completion of the values of options in a shell: names of models, data, recipes, measures and other fixed words.

A shell asks the program at each press of the tab key, so nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sharpcli import plugins
from sharpcli.settings import base, hessian, interpolate, losses, surface, train
from sharpcli.settings.compare import METRICS
from sharpcli.settings.inspect import EXPECTED
from sharpcli.settings.look import STYLES
from sharpcli.training import recipes

_PLUGINS = {
    "model": "models/architectures",
    "data": "datasets/readers",
    "mode": "training/modes",
    "augment": "training/augmentations",
    "measure": "measures",
}
_WORDS: dict[str, Iterable[str]] = {
    "device": base.DEVICES,
    "dtype": base.DTYPES,
    "loss": losses.LOSSES,
    "which": hessian.ENDS,
    "certify": hessian.CERTIFY,
    "operator": hessian.OPERATORS,
    "blocks": hessian.BLOCKS,
    "engine": hessian.ENGINES,
    "compile": hessian.COMPILE,
    "path": interpolate.PATHS,
    "axes": surface.AXES,
    "metrics": METRICS,
    "expect": [f"{name}=" for name in EXPECTED],
    "optimizer": train.OPTIMIZERS,
    "momentum_rule": train.MOMENTUM_RULES,
    "schedule": train.SCHEDULES,
    "lr_scale": train.LR_SCALES,
    "shuffle": train.SHUFFLES,
    "average": train.AVERAGES,
}
_SPECIAL = ("recipe", "bn", "split", "track")
_BN = {"HessianSettings": hessian.BN_POLICIES, "InterpolateSettings": base.PATH_BN_POLICIES}


def completer(settings: type[Any], name: str) -> Callable[[str], list[str]] | None:
    """Return the function that completes the values of an option, for Typer; None if its values are no fixed words.

    Args:
        settings: The class of the settings of the command.
        name: The field of the option.
    """
    if name not in {*_PLUGINS, *_WORDS, *_SPECIAL}:
        return None

    def complete(incomplete: str) -> list[str]:
        """Return the values that start with what was typed; after a comma, those of the next word of a list."""
        before, comma, word = incomplete.rpartition(",")
        taken = before.split(",")
        return [before + comma + one for one in known_words(settings, name) if one.startswith(word) and one not in taken]

    return complete


def styles_starting_with(incomplete: str) -> list[str]:
    """Return the styles of figures that start with what was typed."""
    return [style for style in STYLES if style.startswith(incomplete)]


def known_words(settings: type[Any], name: str) -> list[str]:
    """Return the fixed words of an option; an empty list if there are none. Some options accept other values, too."""
    if name == "recipe":
        return recipes.names()
    if name == "bn":
        return list(_BN.get(settings.__name__, base.PATH_BN_POLICIES))
    if name == "split":
        return list(settings._splits)
    if name == "track":
        return [train.CRITICAL, *plugins.names("measures")]
    return plugins.names(_PLUGINS[name]) if name in _PLUGINS else list(_WORDS.get(name, ()))
