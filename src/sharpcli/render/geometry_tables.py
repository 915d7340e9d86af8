"""Tables of paths, distances and surfaces."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.barriers import barrier_matrix
from sharpcli.render.folding import kept
from sharpcli.render.labels import plane
from sharpcli.render.table import Part, Table, between, dim, heading, new_table, number, percent, told_by
from sharpcli.results import (
    Curve,
    DistanceResult,
    LayerDistance,
    PathCurvature,
    PathResult,
    SurfaceResult,
)


def draw_path(result: PathResult) -> list[Part]:
    """Return losses along a path."""
    columns = [f"{curve.split} {what}" for curve in result.curves for what in ("loss", "accuracy")]
    bent = result.curvature
    columns += ["lambda max", "along the path"] if bent else []
    table = new_table(
        f"{result.path} path: α = 0 is {kept(result.start.path)}, α = 1 is {kept(result.end.path)}", "alpha", *columns, left=0
    )
    for row, alpha in enumerate(result.alphas):
        cells = [cell for curve in result.curves for cell in (f"{curve.loss[row]:.4g}", percent(curve.accuracy[row]))]
        cells += [number(bent.lambda_max[row]), number(bent.along[row])] if bent else []
        table.add_row(number(alpha), *cells, style="bold" if alpha in (0, 1) else "")
    bars = Text("\n".join(_barrier(curve) for curve in result.curves))
    if result.straight_barrier is not None:
        bars.append(f"\nbarrier of the straight path ({result.curves[0].split}) {result.straight_barrier:.4g}")
    if result.aligned_share is not None:
        bars.append(f"\nend aligned with the start: {percent(result.aligned_share)} of the hidden units moved")
    counts = ", ".join(f"N = {curve.num_samples} ({curve.split})" for curve in result.curves)
    about = f"{counts}; {result.loss_function}, BatchNorm {result.batch_norm}{between(result.preprocessing, result.output)}"
    if bent:
        bars.append(f"\n{_of_curvature(bent, result.curves[0].split)}")
    note = dim(f"distance between the ends {result.distance:.4g}; {about}; {result.seconds:.1f} s")
    return [table, bars, note, Text()]


def _of_curvature(bent: PathCurvature, split: str) -> str:
    told = [verdict for verdict in bent.verdicts if verdict]
    certified = told.count("certified")
    return (
        f"lambda max of the Hessian of the {split} loss, certified at {certified} of {len(told)} points; along the path: "
        "second derivative of that loss per unit of weight length"
    )


def draw_barriers(results: Sequence[PathResult]) -> list[Part]:
    """Return the barrier between any two of several checkpoints, a table for each split."""
    parts: list[Part] = []
    for split in (curve.split for curve in results[0].curves):
        names, rows = barrier_matrix(results, split)
        table = new_table(f"Barriers of the {split} loss", "", *names, once=False)
        for name, row in zip(names, rows, strict=True):
            table.add_row(name, *map(number, row))
        parts.append(table)
    return parts


def _barrier(curve: Curve) -> str:
    gaps = f"; {curve.not_finite} points not finite" if curve.not_finite else ""
    where = f" at α = {curve.barrier_alpha:.3g}" if curve.barrier else ""
    return f"barrier ({curve.split}) {number(curve.barrier)}{where}{gaps}"


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
    if result.way is not None:
        turns = ", ".join(number(turn, 3) for turn in result.way.turns)
        parts.append(dim(
            f"way through the saved steps {result.way.length:.5g}, displacement {result.way.displacement:.5g} "
            f"(straightness {number(result.way.straightness, 3)}){f'; cosines of its turns: {turns}' if turns else ''}"
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


def draw_surface(result: SurfaceResult) -> list[Part]:
    """Return what a surface spans."""
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
    about = f"{conditions.split} loss ({conditions.loss_function}), N = {conditions.num_samples}, BatchNorm {result.batch_norm}"
    about += between(conditions.preprocessing, conditions.output)
    return [*parts, dim(f"{about}; {result.seconds:.1f} s"), Text()]
