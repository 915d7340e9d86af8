"""The layers of a model as figures: the curvature of each, and its share of the first eigenvector."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from sharpcli.render.figures.hessian.lines import Line
from sharpcli.render.figures.style import legend_below, mesh, name_rows, plain_number
from sharpcli.render.labels import BLOCKS
from sharpcli.results import Layer


def draw_layers(axes: Axes, line: Line) -> None:
    """Draw the largest eigenvalue of each layer's diagonal block as a bar, the first layer on top."""
    layers = line.result.layers
    values = [layer.lambda_max for layer in layers]
    bars = axes.barh(
        range(len(layers)), values, xerr=[layer.residual for layer in layers], color=line.colour, height=0.62, ecolor="0.2"
    )  # fmt: skip
    for bar, layer in zip(bars, layers, strict=True):
        if layer.verdict != "certified":
            bar.set(facecolor="white", edgecolor=line.colour, hatch="////")
    for place, layer in enumerate(layers):
        reach = max(layer.lambda_max + layer.residual, 0.0)  # The number is next to the bar, on the side without names.
        _write_beside(axes, reach, place, plain_number(float(f"{layer.lambda_max:.3g}")))
    if line.result.lambda_max is not None and math.isfinite(line.result.lambda_max):
        label = f"full matrix, {line.result.lambda_max:.3g}"
        axes.axvline(line.result.lambda_max, color="0.3", linestyle=":", linewidth=1.2, label=label)
    hollow = ", ".join(dict.fromkeys(layer.verdict for layer in layers if layer.verdict != "certified"))
    if hollow:
        axes.barh([0], [0], color="white", edgecolor=line.colour, hatch="////", label=hollow)
    axes.margins(x=0.15)
    word = BLOCKS[line.result.settings.get("blocks", "layer")]
    axes.set(xlabel="largest eigenvalue of the diagonal block", ylabel=word)
    axes.set_title(f"{word.capitalize()}s")
    _name_layers(axes, layers)
    legend_below(axes)


def draw_shares(axes: Axes, line: Line) -> None:
    """Draw the part of the first eigenvector that lies in each layer."""
    layers = line.result.layers
    shares = [100 * layer.share for layer in layers]
    axes.barh(range(len(layers)), shares, color="0.6", height=0.62)
    for place, share in enumerate(shares):
        _write_beside(axes, share, place, f"{share:.1f} %")
    axes.set(xlabel=f"share of ‖v₁‖² in each {BLOCKS[line.result.settings.get('blocks', 'layer')]} (%)")
    axes.set_xlim(0, max(115.0 if max(shares) > 80 else 1.25 * max(shares), 1.0))
    axes.set_title("Share of the first eigenvector")
    _name_layers(axes, layers)


def _write_beside(axes: Axes, where: float, place: int, text: str) -> None:
    """Write a text right of the end of a bar, over lines."""
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    axes.annotate(text, (where, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize="small", bbox=white)


def _name_layers(axes: Axes, layers: Sequence[Layer]) -> None:
    mesh(axes)
    name_rows(axes, [layer.label for layer in layers])
    axes.tick_params(axis="y", labelsize="small")
    axes.grid(visible=False, axis="y")
