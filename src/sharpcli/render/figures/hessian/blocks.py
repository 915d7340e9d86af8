"""The spectra of diagonal blocks as figures: one strip for each density, and the distances of all pairs."""

from __future__ import annotations

import math

import numpy
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from sharpcli.render.figures.hessian.lines import Line
from sharpcli.render.figures.style import mark_decades, mesh, name_rows
from sharpcli.results import Density, Layer

_ANNOTATED = 12  # With more blocks the numbers do not fit into the cells.
_FLOOR = 0.3  # The colours end at this fraction of the height of a single eigenvalue.
_DARK = 0.55  # From this distance on, numbers are written in white.


def draw_block_densities(axes: Axes, line: Line) -> None:
    """Draw the density of each block as a strip, the first block on top; the colour is the density, on a logarithmic scale."""
    shown = [(layer, layer.density) for layer in line.result.layers if layer.density is not None]
    linear = shown[0][1].linear_width
    low, high = min(one.grid[0] for _, one in shown), max(one.grid[-1] for _, one in shown)
    floor = min(_FLOOR * _single(layer, one) for layer, one in shown)
    scale = LogNorm(floor, max(max(one.density) for _, one in shown))
    image = None
    for place, (_, density) in enumerate(shown):
        edges = linear * numpy.sinh(_edges(numpy.arcsinh(numpy.array(density.grid) / linear)))
        colours = numpy.array([density.density]).clip(min=floor)
        image = axes.pcolormesh(edges, [place - 0.42, place + 0.42], colours, norm=scale, cmap="Blues", rasterized=True)
    axes.set_xscale("asinh", linear_width=linear)
    axes.set(xlim=(low, high), xlabel="eigenvalue λ", ylabel="block")
    mark_decades(axes.xaxis, low, high, linear)
    axes.set_title("Spectral density of each block")
    mesh(axes)
    name_rows(axes, [layer.label for layer, _ in shown])
    axes.tick_params(axis="y", labelsize="small")
    axes.grid(visible=False, axis="y")
    if image is not None and axes.figure is not None:
        bar = axes.figure.colorbar(image, ax=axes, location="bottom", label="share of eigenvalues per unit of ln |λ|", pad=0.03)
        mark_decades(bar.ax.xaxis, floor, float(scale.vmax or floor), floor)


def draw_block_distances(axes: Axes, line: Line) -> None:
    """Draw the Jensen-Shannon distances of all pairs of blocks as a matrix of colours from 0 to 1."""
    found = line.result.block_distances
    assert found is not None
    labels = {layer.name: layer.label for layer in line.result.layers}
    names = [labels[name] for name in found.names]
    image = axes.imshow(found.distances, vmin=0, vmax=1, cmap="Blues", aspect="equal")
    name_rows(axes, names)
    axes.set_xticks(range(len(names)), labels=names, rotation=90)
    axes.tick_params(labelsize="small")
    if len(names) <= _ANNOTATED:
        for row, distances in enumerate(found.distances):
            for column, value in enumerate(distances):
                colour = "white" if value > _DARK else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="small", color=colour)
    axes.set_title(f"Distance of densities, {found.mean:.2f} on average")
    if axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, location="bottom", label="Jensen-Shannon distance", pad=0.03)


def _single(layer: Layer, density: Density) -> float:
    """Return the height of the density at a single eigenvalue of a block far from the others."""
    return 1 / (layer.num_parameters * density.width * math.sqrt(2 * math.pi))


def _edges(centres: numpy.ndarray) -> numpy.ndarray:
    """Return the borders (G + 1,) of cells around equally spaced points (G,)."""
    half = (centres[1] - centres[0]) / 2
    return numpy.append(centres - half, centres[-1] + half)
