"""The table of the options of a command, with the place that each value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sharpcli.render.tables.parts import NO_VALUE, Table, new_table


def draw_configuration(command: str, values: Mapping[str, Any], sources: Mapping[str, str]) -> Table:
    """Return one row per option; those that differ from the default are bold."""
    table = new_table(f"Options of {command}", "option", "value", "source", left=3, once=False)
    for name, source in sources.items():
        value = values[name]
        items = value if isinstance(value, list) else [value]
        shown = ", ".join(
            NO_VALUE if item is None else str(item).lower() if isinstance(item, bool) else str(item) for item in items
        )
        style = "" if source == "default" else "bold"
        table.add_row(f"--{name.replace('_', '-')}", shown or NO_VALUE, source, style=style)
    return table
