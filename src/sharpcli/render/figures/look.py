"""How a figure looks: for a paper, for slides or for a screen, its size and its resolution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context, rcParams, rcParamsDefault
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpcli.settings.look import Look

# Of each style: points of the usual text, factor of the size in inches, factor of line widths.
_TEXT = {"screen": 10.0, "paper": 7.5, "talk": 15.0}
_SIZE = {"screen": 1.0, "paper": 0.67, "talk": 1.28}  # A figure of two panels is 7 inches wide in a paper, 13.3 on a slide.
_LINES = {"screen": 1.0, "paper": 0.75, "talk": 1.7}


def apply(look: Look, figure: Figure) -> None:
    """Set the size of a figure that was drawn in the size that its contents need, and the widths of its lines."""
    width, height = look.size or tuple(_SIZE[look.style] * side for side in figure.get_size_inches())
    figure.set_size_inches(width, height)
    factor = _LINES[look.style]
    for line in figure.findobj(Line2D):
        line.set_linewidth(factor * line.get_linewidth())
        line.set_markersize(factor * line.get_markersize())
    for lines in figure.findobj(LineCollection):
        lines.set_linewidth([factor * width for width in lines.get_linewidth()])  # type: ignore[union-attr]


@contextmanager
def own_style(look: Look | None = None) -> Iterator[None]:
    """Use the defaults of matplotlib, independent of a matplotlibrc and of model code, and take every text literally.

    Names of checkpoints are not formulas, although they may contain dollar signs. Text is text in every format: fonts are
    embedded in a pdf as TrueType (venues refuse Type 3), and an svg has letters that can be searched and edited.
    """
    with rc_context():
        rcParams.update({name: value for name, value in rcParamsDefault.items() if name != "backend"})
        rcParams.update({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "sharpcli"})
        rcParams.update({"text.parse_math": False, "font.size": _TEXT[(look or Look()).style], "axes.titlesize": "medium"})
        rcParams.update({"legend.fontsize": "small", "figure.titlesize": "large", "errorbar.capsize": 3})
        yield
