"""The single runs of a `train` command: each mode or recipe, at each combination of the sweep values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from sharpcli.errors import SettingsError, closest
from sharpcli.settings import TrainSettings
from sharpcli.settings.train import AUTO
from sharpcli.training.recipes import Recipe, recipe_named

_NOT_SWEPT = ("out", "overwrite", "resume", "list_recipes", "device", "deterministic", "data_root", "download", "state_seconds")


@dataclass(frozen=True)
class Variant:
    """One run of a command.

    Attributes:
        name: Name of its folder, different for each run of a command.
        mode: Plug-in in training/modes.
        settings: Settings of this run, including those of its recipe.
        recipe: The recipe of a paper, if one was named.
        command: Settings of the entire command.
    """

    name: str
    mode: str
    settings: TrainSettings
    recipe: Recipe | None
    command: TrainSettings


def variants(settings: TrainSettings) -> list[Variant]:
    """Return the runs that the settings request.

    Raises:
        SettingsError: A recipe or an option is unknown, a value is not valid, or settings contradict each other.
    """
    bases = _of_recipes(settings) if settings.recipe else _of_modes(settings)
    sweeps = [_swept(text) for text in settings.sweep]
    keys = [key for key, _ in sweeps]
    if len(set(keys)) < len(keys):
        raise SettingsError("--sweep names the same option twice.", "Give all its values in one --sweep, such as lr=0.01,0.1.")
    if "batch_size" in keys and len(settings.mode) > 1:
        raise _same_batches()
    all_variants = []
    for base in bases:
        for values in itertools.product(*(values for _, values in sweeps)):
            chosen = dict(zip(keys, values, strict=True))
            tail = "".join(f"-{key.replace('_', '-')}{_word(value)}" for key, value in chosen.items())
            # A swept value is the user's choice, so it is set before the recipe fills in the other settings.
            own = replace(settings, **chosen)
            filled = base.recipe.fill(own) if base.recipe else own
            all_variants.append(replace(base, name=base.name + tail, settings=filled))
    names = [variant.name for variant in all_variants]
    if len(set(names)) < len(names):
        raise SettingsError("--sweep would give two runs the same folder.", "Name values that differ in more than punctuation.")
    return all_variants


def _word(value: object) -> str:
    """Return a value as part of a folder name; path separators are replaced, so that it stays one folder in its place."""
    text = str(value)
    word = "".join(letter if letter.isalnum() or letter in "-.+_=," else "-" for letter in text)
    return word if word == text else word.strip("-.")


def _of_recipes(settings: TrainSettings) -> list[Variant]:
    all_variants = []
    for name in settings.recipe:
        chosen = recipe_named(name)
        filled = chosen.fill(settings)
        if len(filled.mode) > 1:
            raise SettingsError("--recipe with several modes would train each recipe several times.", "Give one --mode.")
        all_variants.append(Variant(name, filled.mode[0], filled, chosen, settings))
    return all_variants


def _of_modes(settings: TrainSettings) -> list[Variant]:
    modes = ["sgd" if mode == AUTO else mode for mode in settings.mode]
    if settings.batch_size is not None and len(modes) > 1:
        raise _same_batches()
    return [Variant(mode, mode, settings, None, settings) for mode in modes]


def _same_batches() -> SettingsError:
    return SettingsError(
        "--batch-size with several modes would make them the same.", "Train the modes one at a time, with one --out."
    )


def _swept(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read "lr=0.01,0.1" as a field of the settings and its values."""
    word, _, values = text.partition("=")
    key = word.strip().removeprefix("--").replace("-", "_")
    kinds = {name: _kind(hint) for name, hint in get_type_hints(TrainSettings).items() if not name.startswith("_")}
    allowed = {name: kind for name, kind in kinds.items() if kind is not None and name not in _NOT_SWEPT}
    if key not in allowed:
        raise SettingsError(
            f"--sweep cannot vary '{word.strip()}'.", closest(word.strip(), [name.replace("_", "-") for name in allowed])
        )
    try:
        read = tuple(allowed[key](part.strip()) for part in values.split(",") if part.strip())
    except ValueError:
        read = ()
    if not read:
        raise SettingsError(f"--sweep {text} has no valid values.", "Write it like lr=0.01,0.1.")
    if len(set(read)) < len(read):
        raise SettingsError(f"--sweep {text} names the same value twice.", "Give each value once.")
    return key, read


def _kind(hint: Any) -> type[Any] | None:
    """Return the type of one value of a setting, or None if it holds several or is a switch."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 and kinds[0] in (int, float, str) and "tuple" not in str(hint) else None
