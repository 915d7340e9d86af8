"""The results of `hessian` as one figure; the contents of the results decide which panels it has."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpcli.errors import SettingsError
from sharpcli.render.figures.hessian.blocks import draw_block_densities, draw_block_distances
from sharpcli.render.figures.hessian.density import draw_count, draw_density, has_positive_part
from sharpcli.render.figures.hessian.eigenvalues import draw_course, draw_eigenvalues, draw_search, history_of
from sharpcli.render.figures.hessian.layers import draw_layers, draw_shares
from sharpcli.render.figures.hessian.lines import Line, by_name, course, few, runs_of, side_by_side
from sharpcli.render.figures.style import Panel, lay_out
from sharpcli.render.labels import MATRICES
from sharpcli.results import HessianResult

_ROW_OF_LAYER = 0.055  # Height of a layer's bar, in panels.
_SPECTRA = 1.15  # Least height of the panels of blocks, whose names are below an axis.


def draw_hessian(results: Sequence[HessianResult]) -> Figure:
    """Draw the contents of the results, one or two panels per row.

    Raises:
        SettingsError: The results contain neither eigenvalues nor a density.
    """
    runs = runs_of(results)
    lines = course(runs) if runs else side_by_side(results)
    rows: list[list[Panel]] = []
    heights: list[float] = []

    def add(height: float, *panels: Panel) -> None:
        rows.append(list(panels))
        heights.append(height)

    with_values = [line for line in lines if line.finite()]
    dense = few([line for line in lines if line.result.density])
    if with_values:
        searched = [partial(draw_search, lines=with_values)] if any(history_of(line) for line in with_values) else []
        add(1, partial(draw_course if runs else draw_eigenvalues, lines=with_values), *searched)
    if dense:
        countable = any(line.result.density and has_positive_part(line.result.density) for line in dense)
        add(1, partial(draw_density, lines=dense), *([partial(draw_count, lines=dense)] if countable else []))
    if len(lines) == 1 and results[0].layers:
        height = max(1.0, _ROW_OF_LAYER * len(results[0].layers))
        add(height, partial(draw_layers, line=lines[0]), partial(draw_shares, line=lines[0]))
        if any(layer.density for layer in results[0].layers):
            several = [partial(draw_block_distances, line=lines[0])] if results[0].block_distances else []
            add(max(height, _SPECTRA), partial(draw_block_densities, line=lines[0]), *several)
    if not rows:
        raise SettingsError("There is nothing to draw.", "Add --density, or compute eigenvalues with --topk 1 or more.")
    figure = lay_out(rows, heights, margin=0.4 if len(by_name(lines)) == 1 else 0.8)
    figure.suptitle(textwrap.fill(_headline(lines), round(10 * figure.get_figwidth())))
    _name_lines(figure, lines)
    return figure


def _headline(lines: Sequence[Line]) -> str:
    """Return the common part of all results: the matrix, the numbers of samples and parameters, and a common name."""
    first, names = lines[0].result, list(by_name(lines))
    matrix = MATRICES[first.operator][0]
    parts = [f"{matrix[0].upper()}{matrix[1:]}" + (f" of {names[0]}" if len(names) == 1 else "")]
    for letter, field in (("N", "num_samples"), ("P", "num_parameters")):
        values = {getattr(line.result.conditions, field) for line in lines}
        parts += [f"{letter}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{values.pop()}"] if len(values) == 1 else []
    return ", ".join(parts)


def _name_lines(figure: Figure, lines: Sequence[Line]) -> None:
    """Name the lines below the figure if there are several."""
    named = by_name(lines)
    if len(named) == 1:
        return
    handles = [Line2D([], [], label=name, **own[-1].style) for name, own in named.items()]
    room = int(10 * figure.get_figwidth()) // (max(map(len, named)) + 8)
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(room, len(named))), handlelength=3)
