"""The parts of a printed result: tables, named values, sentences, commands; and the formats of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from sharpcli.render.folding import unbroken, visible
from sharpcli.render.labels import per_term, samples_with, terms_named
from sharpcli.results import Conditions, Reading, Subject

NO_VALUE = "–"
_DECIMALS = 8  # Numbers with an error are written without an exponent up to this number of digits.
_LISTED = 3  # Names that are listed before "and N more".
_FORMULA = 40  # Longest formula in characters that is kept on one line.


@dataclass
class Table:
    """Rows and columns; the first column holds the names of the rows.

    Attributes:
        title: A line above.
        columns: The heads of the columns.
        left: How many columns, from the first, hold words; the others hold numbers.
        once: Whether a column with the same value in all rows is printed once below the table instead.
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
    """Named values, one per line."""

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
    """Return a number with few digits; a dash for None."""
    if value is None:
        return NO_VALUE
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def plus_minus(value: float, error: float) -> str:
    """Return a number and its standard error: the error with two digits, the number with the same decimals."""
    decimals = 1 - math.floor(math.log10(error)) if math.isfinite(error) and error > 0 else -1
    if 0 <= decimals <= _DECIMALS and abs(value) < 10.0 ** (_DECIMALS - decimals):
        return f"{value:.{decimals}f} ± {error:.{decimals}f}"
    return f"{value:.4g} ± {error:.2g}"


def reading_value(reading: Reading | None) -> str:
    """Return the value of a measure with its standard error or bound, or why there is none."""
    if reading is None or reading.value is None:
        return "–" if reading is None else reading.status
    value = f"≥ {number(reading.value)}" if reading.bound == "lower" else number(reading.value)
    return value if reading.standard_error is None else plus_minus(reading.value, reading.standard_error)


def between_bounds(value: float, lower: float, upper: float) -> str:
    """Return a number and its interval, with so many decimals that the width of the interval has three digits."""
    width = upper - lower
    decimals = 2 - math.floor(math.log10(width)) if math.isfinite(width) and width > 0 else -1
    if 0 <= decimals <= _DECIMALS and max(abs(value), abs(lower), abs(upper)) < 10.0 ** (_DECIMALS - decimals):
        return f"{value:.{decimals}f} [{lower:.{decimals}f}, {upper:.{decimals}f}]"
    return f"{value:.5g} [{lower:.4g}, {upper:.4g}]"


def few(names: Sequence[str]) -> str:
    """Return the number of names and the first of them."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} ({', '.join(names[:_LISTED])}{more})"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage."""
    return NO_VALUE if value is None else f"{100 * value:.2f} %"


def new_table(title: str, *columns: str, left: int = 1, once: bool = True) -> Table:
    """Return an empty table; see `Table`."""
    return Table(title, columns, left, once)


def dim(text: str) -> Text:
    """Return a sentence in a dim style."""
    return Text(text, style="dim")


def identified_by(known_by: str) -> str:
    """Return how parameters were separated from buffers."""
    return f"identified by {({'model': 'the model', 'record': 'the file'}).get(known_by, 'names and values')}"


def heading(subject: Subject) -> str:
    """Return path, model, data and training mode of a checkpoint."""
    made = ", ".join(part for part in (subject.model, subject.data, subject.mode) if part)
    return f"{unbroken(subject.path)}{f' ({made})' if made else ''}"


def conditions_line(conditions: Conditions, loss: float, accuracy: float | None, slope: float) -> Text:
    """Return the conditions under which a number about a loss was computed."""
    unit = per_term(conditions.loss_unit, conditions.terms_per_sample)
    of = f" of {terms_named(unit)}" if unit else ""
    right = "" if accuracy is None else f", accuracy {percent(accuracy)}{of}"
    return dim(
        f"{conditions.split} loss {loss:.4g}{f' {unit}' if unit else ''} ({conditions.loss_function}){right}, "
        f"gradient norm {slope:.3g}; N = {sample_count(conditions)}, P = {conditions.num_parameters}; "
        f"{conditions.dtype} on {conditions.device}, "
        f"BatchNorm {conditions.batch_norm}{inputs_and_outputs(conditions.preprocessing, conditions.output)}"
    )


def sample_count(conditions: Conditions) -> str:
    """Return N as text, with the number of loss terms of a sample if it has several."""
    return f"{conditions.num_samples}{samples_with(conditions.loss_unit, conditions.terms_per_sample)}"


def inputs_and_outputs(preprocessing: str, output: str | None) -> str:
    """Return the preprocessing of the inputs, and which part of the model's output the loss uses."""
    formula = unbroken(preprocessing) if len(preprocessing) <= _FORMULA else preprocessing
    before = f"; inputs {formula}" if preprocessing else ""
    return before + (f"; outputs '{output}'" if output else "")
