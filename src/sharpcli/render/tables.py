"""Results as tables for a terminal. Column names are the JSON names with spaces, where there are columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from sharpcli.render.folding import fold, fold_command, kept, usable, visible
from sharpcli.render.geometry_tables import draw_barriers, draw_distance, draw_path, draw_surface
from sharpcli.render.hessian_tables import draw_hessian, draw_side_by_side
from sharpcli.render.labels import distinct
from sharpcli.render.layout import lay_out, lay_out_facts
from sharpcli.render.sharpness_tables import draw_measures, draw_reparam, draw_sharpness
from sharpcli.render.table import (
    Command,
    Facts,
    Part,
    Table,
    between,
    dim,
    few,
    new_table,
    number,
    percent,
    plus_minus,
    told_by,
)
from sharpcli.render.training_tables import draw_recipes, draw_runs, draw_train
from sharpcli.results import (
    CompareResult,
    DistanceResult,
    HessianResult,
    InspectResult,
    MeasuresResult,
    PathResult,
    RecipesResult,
    ReparamResult,
    Result,
    RunsResult,
    SharpnessResult,
    SurfaceResult,
    TrainResult,
)

# What a terminal that knows ASCII only gets in place of some signs; others become question marks.
_PLAIN = str.maketrans("─–−…×‖₀", "---~x|0")


def show(results: Sequence[Result], to: Console) -> None:
    """Write the answers of one command, in lines of the console's width; in a pipe or a file nothing is folded."""
    drawn = [part for result in results for part in _DRAWERS[type(result)](result)]
    if len(results) > 1 and type(results[0]) in _SUMMARIES:
        drawn += _SUMMARIES[type(results[0])](results)
    before = ""
    for part in drawn:
        lines = _lines(part, usable(to.width))
        if before and isinstance(part, Table | Facts) and part.title:
            lines.insert(0, Text())
        for line in lines:
            if to.options.ascii_only:
                line.plain = line.plain.translate(_PLAIN)
            to.print(line, soft_wrap=True)
            before = line.plain


def _lines(part: Part, width: int) -> list[Text]:
    """Return the lines of a part of an answer."""
    if isinstance(part, Table):
        return _title(part.title, width) + lay_out(part, width)
    if isinstance(part, Facts):
        return _title(part.title, width) + lay_out_facts(part, width)
    if isinstance(part, Command):
        return [Text(line) for line in fold_command(visible(part.text), width)]
    return [Text(line, style=part.style) for line in fold(visible(part.plain), width)]


def _title(text: str, width: int) -> list[Text]:
    return [Text(line, style="bold") for line in fold(visible(text), width)] if text else []


def _compare(result: CompareResult) -> list[Part]:
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
            plus_minus(row.gap, row.gap_standard_error),
            number(row.lambda_max),
            number(row.phi),
            number(row.distance),
            number(row.batch_size),
            number(row.updates),
        )
    samples = f"{result.num_train} train and {result.num_test} test samples" if result.num_train else "not the same samples"
    conditions = {f"; {row.loss_function}{between(row.preprocessing, row.output)}" for row in result.rows}
    note = dim(
        f"gap = test loss − train loss ± standard error; lambda max of the Hessian; phi = ε-sharpness, ε = {result.epsilon:g}, "
        f"full space, percent, both on the {result.settings['split']} split; distance = ‖w−w₀‖; "
        f"{samples}{''.join(conditions)}; {result.seconds:.1f} s"
    )
    notes = [
        Text(f"{name}: {text}", style="yellow") for name, row in zip(names, result.rows, strict=True) for text in row.notes
    ]
    return [table, note, *notes, Text()]


def _inspect(result: InspectResult) -> list[Part]:
    subject = result.checkpoint
    known = {
        "tensors": f"{result.num_tensors} ({', '.join(result.dtypes)})",
        "parameters": f"{result.num_parameters} ({told_by(result.known_by)})",
        "tied": few([f"{name} is {owner}" for name, owner in result.ties.items()]) if result.ties else None,
        "buffers": few(result.buffers) if result.buffers else None,
        "left out": few(result.left_out) if result.left_out else None,
        "weights": subject.weights, "weights sha256": subject.sha256[:16],
        "model": subject.model, "data": subject.data, "mode": subject.mode, "updates": subject.step, "seed": subject.seed,
        "batch size": subject.batch_size, "optimizer": subject.optimizer, "peak lr": subject.learning_rate,
    }  # fmt: skip
    facts = [(name, str(value)) for name, value in known.items() if value is not None]
    tensors = new_table("Tensors", "name", "shape", left=2)
    for name, shape in result.tensors:
        tensors.add_row(name, " × ".join(map(str, shape)) or "scalar")
    checks = new_table("Checks", "check", "passed", "detail", left=3)
    for check in result.checks:
        answer = {True: "yes", False: "NO", None: "–"}[check.passed]
        checks.add_row(check.name, answer, check.detail)
    verdict = "This file can be analysed." if result.analysable else "This file cannot be analysed as it stands."
    sentences = [Text(result.run.sentence)] if result.run else []
    title = f"{kept(subject.path)}: {result.container}"
    return [Facts(title, facts), tensors, checks, *sentences, Text(verdict, style="bold"), Text()]


_DRAWERS: dict[type[Result], Callable[..., list[Part]]] = {
    HessianResult: draw_hessian,
    SharpnessResult: draw_sharpness,
    PathResult: draw_path,
    DistanceResult: draw_distance,
    CompareResult: _compare,
    InspectResult: _inspect,
    RunsResult: draw_runs,
    TrainResult: draw_train,
    RecipesResult: draw_recipes,
    MeasuresResult: draw_measures,
    ReparamResult: draw_reparam,
    SurfaceResult: draw_surface,
}

_SUMMARIES: dict[type[Result], Callable[..., list[Part]]] = {
    HessianResult: draw_side_by_side,
    PathResult: draw_barriers,
}
