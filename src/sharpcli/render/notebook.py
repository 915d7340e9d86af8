"""Results in a notebook or a script: as text, HTML, figure, and DataFrame. `results.Result` loads this module by name."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from sharpcli.errors import in_python
from sharpcli.optional import required
from sharpcli.render.console import console, write_message
from sharpcli.render.figures import figure_of
from sharpcli.render.figures.look import own_style
from sharpcli.render.tables import parts_of, show
from sharpcli.render.tables.parts import Command, Facts, Part, Table
from sharpcli.results import Result
from sharpcli.settings.look import look_of

_RESOLUTION = 100  # Pixels per inch of a figure in a notebook.
_STYLES = {
    "bold": "font-weight:bold",
    "dim": "opacity:0.7",
    "red": "color:#b42318",
    "yellow": "color:#9a6700",
    "green": "color:#1a7f37",
}


def text(result: Result) -> str:
    """Return a result as plain text, in lines of the width of the terminal, with its warnings."""
    buffer = io.StringIO()
    width = console(sys.stdout).width
    to = Console(file=buffer, width=width, color_system=None, force_jupyter=False, highlight=False, markup=False)
    for warning in result.warnings:
        write_message(to, in_python(warning), "warning")
    show([result], to)
    return buffer.getvalue().rstrip("\n")


def html(result: Result) -> str:
    """Return a result as HTML, with its warnings; colours are those of the notebook."""
    warnings = "".join(f'<p style="{_STYLES["yellow"]}">warning: {escape(in_python(text))}</p>' for text in result.warnings)
    return f"<div>{warnings}{''.join(_part(part) for part in parts_of([result]))}</div>"


def figure(results: Sequence[Result], style: str | None = None, size: tuple[float, float] | None = None) -> Figure:
    """Return the figure of results of one kind; a notebook shows it.

    Raises:
        SettingsError: There is no figure for these results, or style or size are not valid.
    """
    look = look_of(style, None if size is None else "x".join(f"{side:g}" for side in size))
    made = figure_of(results, look)

    def png() -> bytes:
        buffer = io.BytesIO()
        with own_style(look):
            made.savefig(buffer, format="png", dpi=_RESOLUTION)
        return buffer.getvalue()

    made._repr_png_ = png  # type: ignore[attr-defined]  # For IPython, if matplotlib's own display is not set up.
    return made


def frame(records: Sequence[dict[str, Any]]) -> Any:
    """Return rows as a DataFrame of pandas.

    Raises:
        InputError: pandas is not installed.
    """
    return required("pandas", "A DataFrame").DataFrame.from_records(list(records))


def _part(part: Part) -> str:
    if isinstance(part, Table):
        head = _row("th", part.columns, part.left)
        rows = "".join(_row("td", row, part.left) for row in part.rows)
        return f"{_title(part.title)}<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    if isinstance(part, Facts):
        rows = "".join(_row("td", row, left=2) for row in part.rows)
        return f"{_title(part.title)}<table><tbody>{rows}</tbody></table>"
    if isinstance(part, Command):
        return f"<pre>{escape(part.text)}</pre>"
    return f'<p style="{_style(part)}">{escape(part.plain)}</p>' if part.plain else ""


def _title(text: str) -> str:
    return f"<p><b>{escape(text)}</b></p>" if text else ""


def _row(tag: str, cells: Sequence[str | Text], left: int) -> str:
    """Return a row whose first cells hold words, and the others numbers."""
    texts = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
    sides = ["left" if place < left else "right" for place in range(len(texts))]
    drawn = (
        f'<{tag} style="text-align:{side};{_style(text)}">{escape(text.plain)}</{tag}>'
        for side, text in zip(sides, texts, strict=True)
    )
    return f"<tr>{''.join(drawn)}</tr>"


def _style(text: Text) -> str:
    return ";".join(_STYLES[word] for word in str(text.style).split() if word in _STYLES)
