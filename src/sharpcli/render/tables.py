"""Results as tables for a terminal. Column names are the JSON names with spaces, where there are columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sharpcli.render.hessian_tables import draw_hessian, draw_side_by_side
from sharpcli.render.labels import distinct
from sharpcli.render.table import conditions_line, dim, heading, new_table, number, percent
from sharpcli.results import (
    CompareResult,
    Curve,
    DistanceResult,
    HessianResult,
    InspectResult,
    LayerDistance,
    MeasuresResult,
    PathResult,
    RecipesResult,
    ReparamResult,
    Result,
    SharpnessResult,
    SurfaceResult,
    TrainResult,
)


def show(results: Sequence[Result], to: Console) -> None:
    """Write the answers of one command; sentences and commands are not folded, so that they can be copied."""
    draw = _DRAWERS[type(results[0])]
    drawn = [part for result in results for part in draw(result)]
    if len(results) > 1 and type(results[0]) in _SUMMARIES:
        drawn += _SUMMARIES[type(results[0])](results)
    for part in (piece for whole in drawn for piece in _titled(whole)):
        fitting = _turned(part) if isinstance(part, Table) and _is_too_wide(part, to) else part
        to.print(fitting, soft_wrap=isinstance(part, Text))


def _is_too_wide(table: Table, to: Console) -> bool:
    return Measurement.get(to, to.options.update_width(10_000), table).maximum > to.width


def _turned(table: Table) -> Table:
    """Return a table with rows and columns exchanged: on a narrow terminal nothing is cut off."""
    first, *others = table.columns
    turned = new_table("", str(first.header), *map(str, first.cells))
    turned.title = None
    for column in others:
        turned.add_row(str(column.header), *map(str, column.cells))
    return turned


def _titled(part: RenderableType) -> list[RenderableType]:
    """Put a table's title on a line of its own: rich folds it to the width of the table."""
    if not isinstance(part, Table) or part.title is None:
        return [part]
    title, part.title = Text(str(part.title), style="bold"), None
    return [title, part]


def _sharpness(result: SharpnessResult) -> list[RenderableType]:
    return _readings(result) if result.readings else _measurements(result)


def _readings(result: SharpnessResult) -> list[RenderableType]:
    table = new_table(f"Sharpness of {heading(result.checkpoint)}", "measure", "value", "unit", "passes", "seconds")
    for one in result.readings:
        sign = "≥ " if one.bound == "lower" and one.value else ""
        error = "" if one.standard_error is None else f" ± {one.standard_error:.2g}"
        shown = one.status if one.value is None else f"{sign}{number(one.value)}{error}"
        table.add_row(one.label, shown, one.unit, str(one.passes), f"{one.seconds:.1f}")
    told = [
        dim(f"{one.label}: " + ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in one.details.items()))
        for one in result.readings
        if one.details
    ]
    under = conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm)
    note = dim(
        "≥: a lower bound from a search; ± standard error over random draws; ‖w‖ = "
        f"{result.weight_norm:.4g}. What each means, and when it misleads: sharpcli sharpness --list"
    )
    return [table, *told, under, note, Text()]


def _measures(result: MeasuresResult) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for row in result.rows:
        parts.append(Text(row.name, style="bold"))
        parts.append(Text(f"  {row.summary}"))
        lines = {
            "definition": row.definition, "options": row.options, "invariant under": row.invariant, "misleads": row.misleads,
            "cost": row.cost, "paper": row.reference,
        }  # fmt: skip
        parts += [dim(f"  {name:15}  {line}") for name, line in lines.items()]
        parts.append(Text())
    return [
        *parts,
        Text("Use one with 'sharpcli sharpness CKPT --measure NAME:OPTION=VALUE,...', or all of them with --measure all."),
    ]


def _measurements(result: SharpnessResult) -> list[RenderableType]:
    table = new_table(
        f"ε-sharpness of {heading(result.checkpoint)}",
        "subspace", "epsilon", "phi", "phi of restarts", "phi of sign ascent", "rise", "share at bound", "evaluations",
        "status",
    )  # fmt: skip
    for one in result.measurements:
        table.add_row(
            f"p = {one.subspace}" if one.subspace else "full",
            f"{one.epsilon:g}",
            number(one.phi) if one.standard_error is None else f"{number(one.phi)} ± {one.standard_error:.2g}",
            ", ".join(number(phi) for phi in one.phi_of_restarts),
            ", ".join(number(phi) for phi in one.phi_of_sign_ascent),
            number(one.rise),
            percent(one.share_at_bound),
            str(one.evaluations),
            one.status,
        )
    under = conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm)
    note = dim(
        "phi = 100 (max f − f) / (1 + f), Keskar 2017 eq. 3: a lower bound, the best of all solves; "
        "for p > 0 the mean over random subspaces ± standard error; "
        f"it grows with P and with ‖w‖ = {result.weight_norm:.4g}, {result.seconds:.1f} s"
    )
    return [table, under, note, Text()]


def _path(result: PathResult) -> list[RenderableType]:
    columns = [f"{curve.split} {what}" for curve in result.curves for what in ("loss", "accuracy")]
    table = new_table(
        f"{result.path} path: α = 0 is {result.start.path}, α = 1 is {result.end.path}", "alpha", *columns, left=0
    )
    for row, alpha in enumerate(result.alphas):
        cells = [cell for curve in result.curves for cell in (f"{curve.loss[row]:.4g}", percent(curve.accuracy[row]))]
        table.add_row(f"{alpha:.3g}", *cells, style="bold" if alpha in (0, 1) else "")
    bars = Text("\n".join(_barrier(curve) for curve in result.curves))
    note = dim(f"distance between the ends {result.distance:.4g}; BatchNorm {result.batch_norm}; {result.seconds:.1f} s")
    return [table, bars, note, Text()]


def _barrier(curve: Curve) -> str:
    gaps = f"; {curve.not_finite} points not finite" if curve.not_finite else ""
    where = f" at α = {curve.barrier_alpha:.3g}" if curve.barrier else ""
    return f"barrier ({curve.split}) {curve.barrier:.4g}{where}{gaps}"


def _distance(result: DistanceResult) -> list[RenderableType]:
    table = new_table(f"Distance of {result.checkpoint.path} from {result.reference}", "quantity", "value")
    rows = {
        "distance ‖w−w₀‖": result.distance, "relative to ‖w₀‖": result.relative, "cosine(w, w₀)": result.cosine,
        "norm ‖w‖": result.norm, "init norm ‖w₀‖": result.init_norm, "max change": result.max_change,
    }  # fmt: skip
    for name, value in rows.items():
        table.add_row(name, number(value, 6))
    parts: list[RenderableType] = [table]
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
    return [*parts, dim(f"over {result.num_parameters} parameters; BatchNorm statistics are not parameters"), Text()]


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


def _compare(result: CompareResult) -> list[RenderableType]:
    table = new_table(
        "Comparison",
        "checkpoint", "train loss", "train accuracy", "test loss", "test accuracy", "gap", "lambda max", "phi", "distance",
        "batch size", "updates",
    )  # fmt: skip
    names = distinct([row.checkpoint for row in result.rows])
    for name, row in zip(names, result.rows, strict=True):
        table.add_row(
            name,
            number(row.train_loss),
            percent(row.train_accuracy),
            number(row.test_loss),
            percent(row.test_accuracy),
            f"{row.gap:.3f} ± {row.gap_standard_error:.3f}",
            number(row.lambda_max),
            number(row.phi),
            number(row.distance),
            number(row.batch_size),
            number(row.updates),
        )
    note = dim(
        f"gap = test loss − train loss ± standard error; lambda max of the Hessian; phi = ε-sharpness, ε = {result.epsilon:g}, "
        f"full space, percent, both on the {result.settings['split']} split; distance = ‖w−w₀‖; "
        f"{result.num_train} train and {result.num_test} test samples; "
        f"{result.seconds:.1f} s"
    )
    notes = [
        Text(f"{name}: {text}", style="yellow") for name, row in zip(names, result.rows, strict=True) for text in row.notes
    ]
    return [table, note, *notes, Text()]


def _inspect(result: InspectResult) -> list[RenderableType]:
    table = new_table(f"{result.checkpoint.path}: {result.container}", "what", "value", left=2)
    subject = result.checkpoint
    known = {
        "tensors": f"{result.num_tensors} ({', '.join(result.dtypes)})",
        "parameters": str(result.num_parameters),
        "weights sha256": subject.sha256[:16],
        "model": subject.model, "data": subject.data, "mode": subject.mode, "updates": subject.step, "seed": subject.seed,
        "batch size": subject.batch_size, "optimizer": subject.optimizer, "peak lr": subject.learning_rate,
    }  # fmt: skip
    for name, value in known.items():
        if value is not None:
            table.add_row(name, str(value))
    tensors = new_table("Tensors", "name", "shape", left=2)
    for name, shape in result.tensors:
        tensors.add_row(name, " × ".join(map(str, shape)) or "scalar")
    checks = new_table("Checks", "check", "passed", "detail", left=3)
    for check in result.checks:
        answer = {True: "yes", False: "NO", None: "–"}[check.passed]
        checks.add_row(check.name, answer, check.detail)
    verdict = "This file can be analysed." if result.analysable else "This file cannot be analysed as it stands."
    return [table, tensors, checks, Text(verdict, style="bold"), Text()]


def _train(result: TrainResult) -> list[RenderableType]:
    start = "one set of initial weights" if result.init_sha256 else "several sets of initial weights"
    names = [row.name if row.average is None else f"{row.name} ({row.average})" for row in result.rows]
    table = new_table(
        f"Trained from {start} (P = {result.num_parameters}, {result.device})",
        "run", "batch size", "updates", "epochs", "train loss", "train accuracy", "test loss", "test accuracy", "gap",
        "stopped by", "seconds",
    )  # fmt: skip
    for name, row in zip(names, result.rows, strict=True):
        table.add_row(
            name,
            str(row.batch_size),
            str(row.updates),
            number(row.epochs),
            number(row.train_loss),
            percent(row.train_accuracy),
            number(row.test_loss),
            percent(row.test_accuracy),
            f"{row.gap:.3f}",
            row.stopped_by,
            f"{row.seconds:.0f}",
        )
    files = Text("\n".join(f"{name}: {row.checkpoint}" for name, row in zip(names, result.rows, strict=True)))
    commands = Text("\n".join(["Next:", *(f"  {command}" for command in result.next_commands)]))
    return [table, files, commands, Text()]


def _recipes(result: RecipesResult) -> list[RenderableType]:
    parts: list[RenderableType] = []
    widest = max(len(row.name) for row in result.rows)
    for source, rows in itertools.groupby(result.rows, key=lambda row: row.source.partition(": ")[0]):
        papers = list(rows)
        parts.append(Text(source))
        for row in papers:
            parts.append(Text(f"  {row.name:{widest}}  {row.summary}"))
            parts.append(dim(f"  {'':{widest}}  {row.changes}"))
            parts.append(dim(f"  {'':{widest}}  ({row.source.partition(': ')[2]})"))
        parts += [dim(f"  Networks of the paper: {papers[0].networks}. {papers[0].note}"), Text()]
    return [*parts, Text("Use one with 'sharpcli train --recipe NAME'; any other option overrides what it sets.")]


def _reparam(result: ReparamResult) -> list[RenderableType]:
    taken = f"and taken back in '{result.into}'" if result.into else "so the logits are, too"
    return [
        Text(f"'{result.layer}' of {result.checkpoint.path} was multiplied by {result.factor:g}, {taken}."),
        Text(f"Largest change of an output beyond that: {result.difference:.1e} of the largest output."),
        dim(f"‖w‖ from {result.weight_norm_before:.5g} to {result.weight_norm_after:.5g}"),
        Text(f"Written to {result.written}. Next: sharpcli sharpness {result.checkpoint.path} {result.written} --measure all"),
    ]


def _surface(result: SurfaceResult) -> list[RenderableType]:
    table = new_table(f"Loss surface of {heading(result.checkpoint)}", "quantity", "value")
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
    parts: list[RenderableType] = [table, *axes]
    if result.marks:
        marks = new_table("Points", "point", "alpha", "beta", "distance from the plane")
        for mark in result.marks:
            marks.add_row(mark.name, number(mark.alpha), number(mark.beta), number(mark.distance_from_plane))
        parts.append(marks)
    conditions = result.conditions
    about = f"{conditions.split} loss ({conditions.loss_function}), N = {conditions.num_samples}, BatchNorm {result.batch_norm}"
    return [*parts, dim(f"{about}, {result.seconds:.1f} s"), Text()]


_DRAWERS: dict[type[Result], Callable[..., list[RenderableType]]] = {
    HessianResult: draw_hessian,
    SharpnessResult: _sharpness,
    PathResult: _path,
    DistanceResult: _distance,
    CompareResult: _compare,
    InspectResult: _inspect,
    TrainResult: _train,
    RecipesResult: _recipes,
    MeasuresResult: _measures,
    ReparamResult: _reparam,
    SurfaceResult: _surface,
}

_SUMMARIES: dict[type[Result], Callable[..., list[RenderableType]]] = {HessianResult: draw_side_by_side}
