"""Results as figures. Every line differs in marker and dash, not in colour alone, so a print in grey is readable."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context, rcParams, rcParamsDefault
from matplotlib.figure import Figure
from matplotlib.text import Text

from sharpcli.errors import SettingsError
from sharpcli.render.figures.compare import draw_compare
from sharpcli.render.figures.distance import draw_distances
from sharpcli.render.figures.hessian import draw_hessian
from sharpcli.render.figures.interpolate import draw_paths
from sharpcli.render.figures.surface import draw_surface
from sharpcli.results import CompareResult, DistanceResult, HessianResult, PathResult, Result, SurfaceResult

FORMATS = ("png", "pdf", "svg")


def check_format(path: Path) -> None:
    """Refuse a file name with an unknown ending, before any work is done.

    Raises:
        SettingsError: The ending is not png, pdf or svg.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise SettingsError(f"--plot {path} does not end in {', '.join(FORMATS)}.", f"Write --plot {path.stem or 'out'}.png.")


def draw(results: Sequence[Result], path: Path) -> bytes:
    """Return the figure of the results in the format of the path's ending.

    Raises:
        SettingsError: The ending is unknown, or there is nothing to draw.
    """
    check_format(path)
    ending, buffer = path.suffix.lower().removeprefix("."), io.BytesIO()
    # Without dates and random ids, equal results give equal bytes.
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[ending]
    with _own_style():
        figure_of(results).savefig(buffer, format=ending, dpi=150, metadata=metadata)
    return buffer.getvalue()


def figure_of(results: Sequence[Result]) -> Figure:
    """Return the figure of results of one kind.

    Raises:
        SettingsError: There is no figure for this kind of result, or there is nothing to draw.
    """
    kind = type(results[0])
    if kind not in _DRAWERS or any(type(result) is not kind for result in results):
        kinds = " and ".join(dict.fromkeys(type(result).__name__ for result in results))
        drawn = ", ".join(drawn.__name__ for drawn in _DRAWERS)
        raise SettingsError(f"There is no figure of {kinds}.", f"A figure shows results of one of these kinds: {drawn}.")
    with _own_style():
        figure = _DRAWERS[kind](results)
        for text in figure.findobj(Text):  # The name of a file may contain bytes that are not text.
            text.set_text(text.get_text().encode("utf-8", "replace").decode())
    return figure


@contextmanager
def _own_style() -> Iterator[None]:
    """Use the defaults of matplotlib, independent of a matplotlibrc and of model code, and take every text literally.

    Names of checkpoints are not formulas, although they may contain dollar signs.
    """
    with rc_context():
        rcParams.update({name: value for name, value in rcParamsDefault.items() if name != "backend"})
        rcParams.update({"svg.hashsalt": "sharpcli", "text.parse_math": False})
        yield


_DRAWERS: dict[type[Result], Callable[..., Figure]] = {
    HessianResult: draw_hessian,
    PathResult: draw_paths,
    DistanceResult: draw_distances,
    CompareResult: draw_compare,
    SurfaceResult: draw_surface,
}
