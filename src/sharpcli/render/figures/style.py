"""Common parts of figures: line styles that print in grey, a grid of panels, tick marks, legends outside the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

Panel = Callable[[Axes], None]

# Okabe and Ito's colours, which differ in lightness too; each line also has a marker and a dash. The three lengths
# have no common factor, so that combinations repeat as late as possible.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)))
_WIDTH, _HEIGHT = 5.2, 4.2  # Of a panel, in inches.
_LABELS = 3.6  # Space below an axis that its numbers and name take, in sizes of the usual text.
_MOST_TICKS = 8


def styles() -> Iterator[dict[str, Any]]:
    """Return an endless iterator of line styles."""
    combined = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_DASHES), strict=False)
    return ({"color": colour, "marker": marker, "linestyle": dash, "markersize": 4} for colour, marker, dash in combined)


def faded(colour: str, strength: float) -> tuple[float, ...]:
    """Return the colour mixed with white; strength 1 leaves it as it is."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


def finish(axes: Axes) -> None:
    """Give a panel a grid and a legend."""
    mesh(axes)
    axes.legend(frameon=True)


def mesh(axes: Axes) -> None:
    """Give a panel a faint grid behind the data."""
    axes.tick_params(labelsize=rcParams["font.size"])  # Also for ticks that matplotlib makes when the figure is written.
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def drawable(name: str) -> str:
    """Return a name with question marks for bytes that are no text, which a file name may have and fonts cannot draw."""
    return name.encode("utf-8", "replace").decode()


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write a name at each row of a panel, the first on top."""
    axes.set_yticks(range(len(names)), [drawable(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def legend_below(axes: Axes) -> None:
    """Put the legend below the axis, where no data are; nothing if no line has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 2 if max(map(len, labels)) <= 34 and len(labels) > 1 else 1
        down = ScaledTranslation(0, -_LABELS * rcParams["font.size"] / 72, axes.figure.dpi_scale_trans)
        place: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0),
            "bbox_transform": axes.transAxes + down,
            "borderpad": 0,
        }
        axes.legend(handles, labels, ncols=columns, frameon=False, **place)


def lay_out(rows: Sequence[Sequence[Panel]], heights: Sequence[float], *, margin: float = 0.4) -> Figure:
    """Draw rows of one or two panels each; the single panel of a row is as wide as the row.

    Args:
        rows: Functions that draw a panel.
        heights: Height of each row, relative to the usual height.
        margin: Height above and below the panels, in inches.
    """
    columns = max(map(len, rows))
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * sum(heights) + margin), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1, hspace=0.03)  # type: ignore[union-attr, call-arg]
    grid = figure.add_gridspec(len(rows), columns, height_ratios=list(heights))
    for place, row in enumerate(rows):
        for column, panel in enumerate(row):
            panel(figure.add_subplot(grid[place, column] if len(row) == columns else grid[place, :]))
    return figure


def mark_decades(axis: Axis, low: float, high: float, linear: float) -> None:
    """Mark an axis that is logarithmic on both sides of a linear part with 0 and ± powers of ten, written as numbers.

    Args:
        axis: The axis, whose scale is log (then `low` is positive), symlog or asinh.
        low: Lower limit of the axis.
        high: Upper limit of the axis.
        linear: End of the linear part, in which only 0 is marked.
    """
    first = math.ceil(math.log10(max(linear, low)) - 1e-9)
    last = math.floor(math.log10(max(abs(low), abs(high), linear)) + 1e-9)
    signs = [sign for sign, end in ((-1, -low), (1, high)) if end > linear]
    room = max(_MOST_TICKS // max(len(signs), 1), 2)
    stride = max(math.ceil((last - first + 1) / room), 1)
    powers = [10.0**exponent for exponent in range(last, first - 1, -stride)]
    marks = [sign * power for sign in signs for power in powers if low <= sign * power <= high]
    if len(marks) < 3:  # Less than two decades: 1, 2 and 5 in each.
        every = [digit * 10.0**exponent for exponent in range(first - 1, last + 1) for digit in (1, 2, 5)]
        marks = [sign * mark for sign in signs for mark in every if low <= sign * mark <= high and mark >= linear]
    set_marks(axis, sorted([*marks, *([0.0] if low <= 0 <= high else [])]))


def set_marks(axis: Axis, marks: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Mark an axis at these places only."""
    axis.set_major_locator(FixedLocator(list(marks)))
    axis.set_minor_locator(NullLocator())
    names = dict(zip(marks, labels or [plain_number(mark) for mark in marks], strict=True))
    axis.set_major_formatter(FuncFormatter(lambda place, _: names.get(place, "")))


def plain_ticks(axis: Axis) -> None:
    """Write plain numbers on a logarithmic axis, instead of the formulas of matplotlib, which are disabled here."""
    axis.set_major_formatter(FuncFormatter(lambda place, _: plain_number(place)))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float) -> str:
    """Return a number as text: 0.01 and 100, but 1e-5 and 1e6."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
    digits, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits}e{int(exponent)}".replace("-", "\N{MINUS SIGN}")
