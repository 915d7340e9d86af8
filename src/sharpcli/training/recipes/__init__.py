"""Recipes of papers by name: data in training/recipes/*.toml, one file per paper. Standard library only."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from sharpcli.errors import SettingsError, closest
from sharpcli.settings import TrainSettings

_FOLDER = Path(__file__).parent
_ABOUT = ("summary", "where", "extends")
_DEFAULT = "default"  # Removes a setting of the extended recipe.
_EITHER = (
    ("epochs", "steps"),
    ("steps", "regime_adapt"),
    ("sam", "asam"),
)  # If the user gives one setting of a pair, the recipe sets neither.


@dataclass(frozen=True)
class Recipe:
    """A recipe: its settings and their source.

    Attributes:
        name: Name on the command line.
        summary: A summary in one line.
        source: The paper.
        where: Section or table.
        networks: Built-in models of the paper; the recipe does not set the model.
        note: A note about all recipes of the paper.
        values: Settings by field of `TrainSettings`.
        extends: The recipe that it extends, or None.
        own: The settings in its own table, without those of the extended recipe.
    """

    name: str
    summary: str
    source: str
    where: str
    networks: str
    note: str
    values: dict[str, Any]
    extends: str | None
    own: dict[str, Any]

    def words(self, filled: TrainSettings | None = None) -> str:
        """Return its settings as command-line options; with `filled`, only those whose values are still in `filled`."""
        kept = (
            self.values.items()
            if filled is None
            else [part for part in self.values.items() if getattr(filled, part[0]) == part[1]]
        )
        return " ".join(_words(name, value) for name, value in kept)

    def own_words(self) -> str:
        """Return its own settings as command-line options, as changes to the recipe that it extends."""
        changes = " ".join(_words(name, value) for name, value in self.own.items())
        return f"as {self.extends}, and {changes}" if self.extends else changes

    def fill(self, settings: TrainSettings) -> TrainSettings:
        """Return settings in which this recipe sets everything that the user did not give."""
        own = {entry.name for entry in fields(settings) if getattr(settings, entry.name) != entry.default}
        taken_back = {name for pair in _EITHER if own.intersection(pair) for name in pair}
        taken_back |= {"batch_size"} if "mode" in own else set()  # Each mode has a batch size of its own.
        taken_back |= {"augment_copies"} if settings.augment == ("none",) else set()
        return replace(settings, **{name: value for name, value in self.values.items() if name not in own | taken_back})


def names() -> list[str]:
    """Return the names of all recipes, paper by paper."""
    return list(_all())


def recipe_named(name: str) -> Recipe:
    """Return the recipe with this name.

    Raises:
        SettingsError: There is no such recipe.
    """
    if name not in _all():
        raise SettingsError(f"There is no recipe called '{name}'.", closest(name, names()))
    return _all()[name]


@cache
def _all() -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        paper = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, entry in paper.items():
            if isinstance(entry, dict):
                base = recipes[entry["extends"]].values if "extends" in entry else {}
                own = {key.replace("-", "_"): value for key, value in entry.items() if key not in _ABOUT}
                merged = {key: value for key, value in {**base, **own}.items() if value != _DEFAULT}
                about = {key: paper[key] for key in ("source", "networks", "note")}
                recipes[name] = Recipe(
                    name=name,
                    summary=entry["summary"],
                    where=entry["where"],
                    values=_tuples(merged),
                    extends=entry.get("extends"),
                    own=own,
                    **about,
                )
    return recipes


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return made | {"mode": (made["mode"],) if isinstance(made["mode"], str) else made["mode"]}


def _words(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    text = (
        ",".join(map(str, value))
        if isinstance(value, tuple | list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return f"{flag} {text}"
