"""The list of recipes, which are settings of published trainings, for `train`."""

from __future__ import annotations

from sharpcli import __version__
from sharpcli.results import RecipeRow, RecipesResult
from sharpcli.settings import TrainSettings
from sharpcli.training import recipes as known


def recipes() -> RecipesResult:
    """Return all recipes, each with its settings and their source."""
    rows = [
        RecipeRow(
            name=recipe.name,
            summary=recipe.summary,
            sets=recipe.words(),
            changes=recipe.own_words(),
            source=f"{recipe.source}: {recipe.where}",
            networks=recipe.networks,
            note=recipe.note,
        )
        for recipe in map(known.recipe_named, known.names())
    ]
    return RecipesResult(
        settings=TrainSettings().to_dict(), provenance={"sharpcli": __version__}, seconds=0.0, rows=tuple(rows)
    )
