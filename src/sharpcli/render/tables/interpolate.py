"""Tables of a path between checkpoints, and of the barriers between several."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.barriers import barrier_matrix
from sharpcli.render.folding import unbroken
from sharpcli.render.labels import per_term, samples_with
from sharpcli.render.tables.parts import Part, dim, inputs_and_outputs, new_table, number, percent
from sharpcli.results import Curve, PathCurvature, PathResult


def draw_path(result: PathResult) -> list[Part]:
    """Return losses along a path."""
    columns = [f"{curve.split} {quantity}" for curve in result.curves for quantity in ("loss", "accuracy")]
    curvature = result.curvature
    columns += ["lambda max", "along the path"] if curvature else []
    table = new_table(
        f"{result.path} path: α = 0 is {unbroken(result.start.path)}, α = 1 is {unbroken(result.end.path)}",
        "alpha",
        *columns,
        left=0,
    )
    for row, alpha in enumerate(result.alphas):
        cells = [cell for curve in result.curves for cell in (f"{curve.loss[row]:.4g}", percent(curve.accuracy[row]))]
        cells += [number(curvature.lambda_max[row]), number(curvature.along[row])] if curvature else []
        table.add_row(number(alpha), *cells, style="bold" if alpha in (0, 1) else "")
    barriers = Text("\n".join(_barrier(curve) for curve in result.curves))
    if result.straight_barrier is not None:
        barriers.append(f"\nbarrier of the linear path ({result.curves[0].split}) {result.straight_barrier:.4g}")
    if result.aligned_share is not None:
        barriers.append(f"\nalignment permuted {percent(result.aligned_share)} of the hidden units of the end (α = 1)")
    unit, terms = result.loss_unit, result.terms_per_sample
    counts = ", ".join(f"N = {curve.num_samples}{samples_with(unit, terms)} ({curve.split})" for curve in result.curves)
    transforms = inputs_and_outputs(result.preprocessing, result.output)
    per = per_term(unit, terms)
    about = f"{counts}; {f'losses in {per}, ' if per else ''}{result.loss_function}, BatchNorm {result.batch_norm}{transforms}"
    if curvature:
        barriers.append(f"\n{_about_curvature(curvature, result.curves[0].split)}")
    note = dim(f"distance between the ends {result.distance:.4g}; {about}; {result.seconds:.1f} s")
    return [table, barriers, note, Text()]


def _about_curvature(curvature: PathCurvature, split: str) -> str:
    verdicts = [verdict for verdict in curvature.verdicts if verdict]
    certified = verdicts.count("certified")
    return (
        f"lambda max of the Hessian of the {split} loss, certified at {certified} of {len(verdicts)} points; along the path: "
        "second derivative of this loss with respect to the distance in weight space"
    )


def draw_barriers(results: Sequence[PathResult]) -> list[Part]:
    """Return one table per split, with the barrier between each pair of checkpoints."""
    parts: list[Part] = []
    for split in (curve.split for curve in results[0].curves):
        names, rows = barrier_matrix(results, split)
        table = new_table(f"Barriers of the {split} loss", "", *names, once=False)
        for name, row in zip(names, rows, strict=True):
            table.add_row(name, *map(number, row))
        parts.append(table)
    return parts


def _barrier(curve: Curve) -> str:
    gaps = f"; the loss is not finite at {curve.not_finite} points" if curve.not_finite else ""
    where = f" at α = {curve.barrier_alpha:.3g}" if curve.barrier else ""
    return f"barrier ({curve.split}) {number(curve.barrier)}{where}{gaps}"
