"""Results as figures. Every line differs in marker and dash, not in colour alone, so a print in grey is readable."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from sharpcli.errors import SettingsError
from sharpcli.render.figures.compare import draw_compare
from sharpcli.render.figures.distance import draw_distances
from sharpcli.render.figures.hessian import draw_hessian
from sharpcli.render.figures.interpolate import draw_paths
from sharpcli.render.figures.look import apply, own_style
from sharpcli.render.figures.sharpness import draw_sharpness
from sharpcli.render.figures.surface import draw_surface
from sharpcli.render.figures.watch import draw_watch
from sharpcli.results import (
    CompareResult,
    DistanceResult,
    HessianResult,
    PathResult,
    Result,
    SharpnessResult,
    SurfaceResult,
    WatchResult,
)
from sharpcli.settings.look import Look

FORMATS = ("png", "pdf", "svg")


def check_format(path: Path) -> None:
    """Refuse a file name with an unknown ending, before any work is done.

    Raises:
        SettingsError: The ending is not png, pdf or svg.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise SettingsError(f"--plot {path} does not end in {', '.join(FORMATS)}.", f"Write --plot {path.stem or 'out'}.png.")


def draw(results: Sequence[Result], path: Path, look: Look | None = None) -> bytes:
    """Return the figure of the results in the format of the path's ending.

    Args:
        results: Results of one kind.
        path: Its ending is the format; nothing is written.
        look: Style, size and resolution.

    Raises:
        SettingsError: The ending is unknown, there is nothing to draw, or the size is too small for it.
    """
    check_format(path)
    ending, buffer = path.suffix.lower().removeprefix("."), io.BytesIO()
    # Without dates and random ids, equal results give equal bytes.
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[ending]
    look = look or Look()
    with own_style(look), warnings.catch_warnings():
        # A size that was asked for must fit; without one, a very long name may make the layout less tidy.
        warnings.filterwarnings("error" if look.size else "ignore", message="constrained_layout not applied")
        figure = figure_of(results, look)
        try:
            figure.savefig(buffer, format=ending, dpi=look.dpi, metadata=metadata)
        except UserWarning:
            wide, high = figure.get_size_inches()
            raise SettingsError(
                f"The figure does not fit into {wide:g}x{high:g} inches.", "Give a larger --size, or leave it out."
            ) from None
    return buffer.getvalue()


def figure_of(results: Sequence[Result], look: Look | None = None) -> Figure:
    """Return the figure of results of one kind.

    Raises:
        SettingsError: There is no figure for this kind of result, or there is nothing to draw.
    """
    kind = type(results[0])
    if kind not in _DRAWERS or any(type(result) is not kind for result in results):
        kinds = " and ".join(dict.fromkeys(type(result).__name__ for result in results))
        drawn = ", ".join(drawn.__name__ for drawn in _DRAWERS)
        raise SettingsError(f"There is no figure of {kinds}.", f"A figure shows results of one of these kinds: {drawn}.")
    look = look or Look()
    with own_style(look):
        figure = _DRAWERS[kind](results)
        apply(look, figure)
        for text in figure.findobj(Text):  # The name of a file may contain bytes that are not text.
            text.set_text(text.get_text().encode("utf-8", "replace").decode())
    return figure


_DRAWERS: dict[type[Result], Callable[..., Figure]] = {
    HessianResult: draw_hessian,
    PathResult: draw_paths,
    DistanceResult: draw_distances,
    CompareResult: draw_compare,
    SharpnessResult: draw_sharpness,
    SurfaceResult: draw_surface,
    WatchResult: draw_watch,
}
