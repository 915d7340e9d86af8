"""Tables of a path between checkpoints, and of the barriers between several."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.barriers import barrier_matrix
from sharpcli.render.folding import kept
from sharpcli.render.tables.parts import Part, between, dim, new_table, number, percent
from sharpcli.results import Curve, PathCurvature, PathResult


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
