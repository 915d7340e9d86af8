"""What all tables are made of."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from sharpcli.results import Conditions, Subject


def number(value: float | None, digits: int = 4) -> str:
    """Return a number in few digits; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage."""
    return "–" if value is None else f"{100 * value:.2f} %"


def new_table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table; the first `left` columns hold words, the others numbers."""
    made = Table(title=title, box=box.SIMPLE_HEAD)
    for position, column in enumerate(columns):
        words = position < left
        made.add_column(column, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return made


def dim(text: str) -> Text:
    """Return a sentence for those who read on."""
    return Text(text, style="dim")


def told_by(known_by: str) -> str:
    """Return what told parameters from buffers, in words."""
    return {"model": "as the model says", "record": "as the file says"}.get(known_by, "told by names and values")


def heading(subject: Subject) -> str:
    """Return where weights come from."""
    made = ", ".join(part for part in (subject.model, subject.data, subject.mode) if part)
    return f"{subject.path}{f' ({made})' if made else ''}"


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
    before = f"; inputs {preprocessing}" if preprocessing else ""
    return before + (f"; outputs '{output}'" if output else "")
