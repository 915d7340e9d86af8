"""Tables of a surface: its axes and its extremes."""

from __future__ import annotations

import math

from rich.text import Text

from sharpcli.render.labels import per_term, plane
from sharpcli.render.tables.parts import Part, dim, heading, inputs_and_outputs, new_table, number, sample_count
from sharpcli.results import SurfaceResult


def draw_surface(result: SurfaceResult) -> list[Part]:
    """Return tables of the extremes and of the marked points, and the axes."""
    table = new_table(f"Loss surface {plane(result, heading(result.checkpoint))}", "quantity", "value")
    finite = [value for row in result.loss for value in row if math.isfinite(value)]
    rows = {
        "loss at the origin": result.loss_at_origin, "smallest on the grid": min(finite, default=None),
        "largest on the grid": max(finite, default=None), "points": len(result.alphas) * len(result.betas),
        "points not finite": result.not_finite,
    }  # fmt: skip
    for name, value in rows.items():
        table.add_row(name, number(value, 6))
    axes = [
        dim(f"{name}; length {length:.4g}, from {values[0]:.4g} to {values[-1]:.4g}")
        for name, length, values in zip(result.axes, result.lengths, (result.alphas, result.betas), strict=True)
    ]
    parts: list[Part] = [table, *axes]
    if result.marks:
        marks = new_table("Points", "point", "alpha", "beta", "distance from the plane")
        for mark in result.marks:
            marks.add_row(mark.name, number(mark.alpha), number(mark.beta), number(mark.distance_from_plane))
        parts.append(marks)
    conditions = result.conditions
    unit = per_term(conditions.loss_unit, conditions.terms_per_sample)
    about = f"{conditions.split} loss {f'in {unit} ' if unit else ''}({conditions.loss_function}), "
    about += f"N = {sample_count(conditions)}, BatchNorm {result.batch_norm}"
    about += inputs_and_outputs(conditions.preprocessing, conditions.output)
    return [*parts, dim(f"{about}; {result.seconds:.1f} s"), Text()]
