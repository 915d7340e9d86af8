"""What answers are made of: tables, named values, sentences, commands; and numbers in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from sharpcli.render.folding import kept, visible
from sharpcli.results import Conditions, Subject

NOTHING = "–"
_DECIMALS = 8  # Digits up to which numbers with an error are written without an exponent.
_LISTED = 3  # Names that stand for many.
_FORMULA = 40  # Characters of a formula that stays on one line.


@dataclass
class Table:
    """Rows with a name each, and columns.

    Attributes:
        title: A line above.
        columns: What stands above each column; the first holds the names of the rows.
        left: How many columns, from the first, hold words; the others hold numbers.
        once: Whether a column with one value in all rows is said once below the table instead.
        rows: Cells, row by row.
    """

    title: str
    columns: tuple[str, ...]
    left: int = 1
    once: bool = True
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row with a cell for each column."""
        assert len(cells) == len(self.columns)
        self.rows.append(tuple(as_text(cell, style) for cell in cells))


@dataclass(frozen=True)
class Facts:
    """Names with a value each, one below the other."""

    title: str
    rows: Sequence[tuple[str, str]]
    style: str = ""


@dataclass(frozen=True)
class Command:
    """A command that can be copied."""

    text: str


Part = Table | Facts | Command | Text


def as_text(cell: str | Text, style: str = "") -> Text:
    """Return a cell without control characters."""
    return Text(visible(str(cell)).replace("\n", "\\n"), style=style or (cell.style if isinstance(cell, Text) else ""))


def number(value: float | None, digits: int = 4) -> str:
    """Return a number in few digits; a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def plus_minus(value: float, error: float) -> str:
    """Return a number and its standard error in two digits, the number in as many decimals."""
    decimals = 1 - math.floor(math.log10(error)) if math.isfinite(error) and error > 0 else -1
    if 0 <= decimals <= _DECIMALS and abs(value) < 10.0 ** (_DECIMALS - decimals):
        return f"{value:.{decimals}f} ± {error:.{decimals}f}"
    return f"{value:.4g} ± {error:.2g}"


def between_bounds(value: float, lower: float, upper: float) -> str:
    """Return a number and its interval, all in as many decimals as give the interval's width three digits."""
    width = upper - lower
    decimals = 2 - math.floor(math.log10(width)) if math.isfinite(width) and width > 0 else -1
    if 0 <= decimals <= _DECIMALS and max(abs(value), abs(lower), abs(upper)) < 10.0 ** (_DECIMALS - decimals):
        return f"{value:.{decimals}f} [{lower:.{decimals}f}, {upper:.{decimals}f}]"
    return f"{value:.5g} [{lower:.4g}, {upper:.4g}]"


def few(names: Sequence[str]) -> str:
    """Return how many names there are, the first of them, and how many more."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} ({', '.join(names[:_LISTED])}{more})"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage."""
    return NOTHING if value is None else f"{100 * value:.2f} %"


def new_table(title: str, *columns: str, left: int = 1, once: bool = True) -> Table:
    """Return an empty table; see `Table`."""
    return Table(title, columns, left, once)


def dim(text: str) -> Text:
    """Return a sentence for those who read on."""
    return Text(text, style="dim")


def told_by(known_by: str) -> str:
    """Return what told parameters from buffers, in words."""
    return {"model": "as the model says", "record": "as the file says"}.get(known_by, "told by names and values")


def heading(subject: Subject) -> str:
    """Return where weights come from."""
    made = ", ".join(part for part in (subject.model, subject.data, subject.mode) if part)
    return f"{kept(subject.path)}{f' ({made})' if made else ''}"


def conditions_line(conditions: Conditions, loss: float, accuracy: float | None, slope: float) -> Text:
    """Return the conditions that a number about a loss cannot be read without."""
    right = "" if accuracy is None else f", accuracy {percent(accuracy)}"
    return dim(
        f"{conditions.split} loss {loss:.4g} ({conditions.loss_function}){right}, gradient norm {slope:.3g}; "
        f"N = {conditions.num_samples}, P = {conditions.num_parameters}; {conditions.dtype} on {conditions.device}, "
        f"BatchNorm {conditions.batch_norm}{between(conditions.preprocessing, conditions.output)}"
    )


def between(preprocessing: str, output: str | None) -> str:
    """Return what lies between the file and the model, and between the model and its loss."""
    formula = kept(preprocessing) if len(preprocessing) <= _FORMULA else preprocessing
    before = f"; inputs {formula}" if preprocessing else ""
    return before + (f"; outputs '{output}'" if output else "")
