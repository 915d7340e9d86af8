"""The list of all measures for `sharpness`; it is read from their files, so that torch is not loaded."""

from __future__ import annotations

from sharpcli import __version__, plugins
from sharpcli.arguments import typed
from sharpcli.measures import GIVEN
from sharpcli.results import MeasureRow, MeasuresResult
from sharpcli.settings import SharpnessSettings


def measures() -> MeasuresResult:
    """Return every measure with its definition, invariances, cost, options and reference."""
    return MeasuresResult(
        settings=SharpnessSettings().to_dict(),
        provenance={"sharpcli": __version__},
        seconds=0.0,
        rows=tuple(_row(name) for name in plugins.names("measures")),
    )


def _row(name: str) -> MeasureRow:
    told = plugins.described("measures", name, "read")
    options = [f"{option}={typed(value)}" for option, value in told.defaults.items() if option not in GIVEN]
    invariances = [f"{', '.join(what)}{f' ({when})' if when else ''}" for when, what in told.constants["INVARIANT"].items()]
    return MeasureRow(
        name=name,
        summary=told.docstring.partition("\n")[0],
        definition=told.constants["DEFINITION"],
        invariant="; ".join(invariances) or "nothing",
        misleads=told.constants["MISLEADS"],
        cost=told.constants["COST"],
        options=", ".join(options),
        reference=told.docstring.partition("Reference: ")[2].strip().replace("\n", " "),
    )
