"""Tables of distances from initialization."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.folding import unbroken
from sharpcli.render.tables.parts import Part, Table, dim, identified_by, new_table, number
from sharpcli.results import DistanceResult, LayerDistance, Trajectory


def draw_distance(result: DistanceResult) -> list[Part]:
    """Return tables of the distance in total, per layer and along a run."""
    table = new_table(f"Distance of {unbroken(result.checkpoint.path)} from {unbroken(result.reference)}", "quantity", "value")
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
        for step in result.steps:
            steps.add_row(number(step.step), number(step.distance), number(step.relative), number(step.cosine))
        parts.append(steps)
    if result.trajectory is not None:
        parts.append(dim(_trajectory(result.trajectory)))
    if result.growth is not None:
        parts.append(Text(result.growth.sentence))
    ties = f"; {len(result.ties)} tied tensors are counted once" if result.ties else ""
    return [
        *parts,
        dim(f"over {result.num_parameters} parameters ({identified_by(result.known_by)}), without buffers{ties}"),
        Text(),
    ]


def _trajectory(trajectory: Trajectory) -> str:
    """Return length, displacement and turns of the trajectory of a run."""
    turns = ", ".join(number(turn, 3) for turn in trajectory.turns)
    return (
        f"trajectory through the saved steps: length {trajectory.length:.5g}, displacement {trajectory.displacement:.5g}, "
        f"straightness {number(trajectory.straightness, 3)}"
        + (f"; cosines between successive segments: {turns}" if turns else "")
    )


def _layers(layers: Sequence[LayerDistance]) -> Table:
    table = new_table(
        "Per layer",
        "name", "size", "norm", "distance", "relative", "cosine", "filters", "filter relative mean", "filter relative max",
    )  # fmt: skip
    for layer in layers:
        values = (
            layer.norm,
            layer.distance,
            layer.relative,
            layer.cosine,
            layer.filters,
            layer.filter_relative_mean,
            layer.filter_relative_max,
        )
        table.add_row(layer.name, str(layer.size), *map(number, values))
    return table
