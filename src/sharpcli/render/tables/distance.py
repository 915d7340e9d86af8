"""Tables of distances from initialization."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.folding import kept
from sharpcli.render.tables.parts import Part, Table, dim, new_table, number, told_by
from sharpcli.results import DistanceResult, LayerDistance


def draw_distance(result: DistanceResult) -> list[Part]:
    """Return distances in all, per layer, along a run."""
    table = new_table(f"Distance of {kept(result.checkpoint.path)} from {kept(result.reference)}", "quantity", "value")
    rows = {
        "distance ‖w−w₀‖": result.distance, "relative to ‖w₀‖": result.relative, "cosine(w, w₀)": result.cosine,
        "norm ‖w‖": result.norm, "init norm ‖w₀‖": result.init_norm, "max change": result.max_change,
    }  # fmt: skip
    for name, value in rows.items():
        table.add_row(name, number(value, 6))
    parts: list[Part] = [table]
    if result.layers:
        parts.append(_layers(result.layers))
    if result.steps:
        steps = new_table("Along the saved steps", "step", "distance", "relative", "cosine", left=0)
        for one in result.steps:
            steps.add_row(number(one.step), number(one.distance), number(one.relative), number(one.cosine))
        parts.append(steps)
    if result.trajectory is not None:
        turns = ", ".join(number(turn, 3) for turn in result.trajectory.turns)
        parts.append(dim(
            f"way through the saved steps {result.trajectory.length:.5g}, displacement {result.trajectory.displacement:.5g} "
            f"(straightness {number(result.trajectory.straightness, 3)}){f'; cosines of its turns: {turns}' if turns else ''}"
        ))  # fmt: skip
    if result.growth is not None:
        parts.append(Text(result.growth.sentence))
    ties = f"; tied tensors once ({len(result.ties)})" if result.ties else ""
    return [
        *parts,
        dim(f"over {result.num_parameters} parameters, {told_by(result.known_by)}{ties}; buffers are not parameters"),
        Text(),
    ]


def _layers(layers: Sequence[LayerDistance]) -> Table:
    columns = ("name", "size", "norm", "distance", "relative", "cosine", "filters", "relative of filters, mean", "max")
    table = new_table("Per layer", *columns)
    for one in layers:
        values = (
            one.norm,
            one.distance,
            one.relative,
            one.cosine,
            one.filters,
            one.filter_relative_mean,
            one.filter_relative_max,
        )
        table.add_row(one.name, str(one.size), *map(number, values))
    return table
