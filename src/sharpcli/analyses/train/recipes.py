"""List the recipes of papers that `train` knows."""

from __future__ import annotations

from sharpcli import __version__
from sharpcli.results import RecipeRow, RecipesResult
from sharpcli.settings import TrainSettings
from sharpcli.training import recipes as known


def recipes() -> RecipesResult:
    """Return every recipe with what it sets and where that comes from."""
    rows = [
        RecipeRow(
            name=found.name,
            summary=found.summary,
            sets=found.words(),
            changes=found.own_words(),
            source=f"{found.source}: {found.where}",
            networks=found.networks,
            note=found.note,
        )
        for found in map(known.recipe_named, known.names())
    ]
    return RecipesResult(
        settings=TrainSettings().to_dict(), provenance={"sharpcli": __version__}, seconds=0.0, rows=tuple(rows)
    )
