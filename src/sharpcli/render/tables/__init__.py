"""Results as tables for a terminal. Column names are the JSON names with spaces, where there are columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from sharpcli.render.folding import fold, fold_command, usable, visible
from sharpcli.render.tables.compare import draw_compare
from sharpcli.render.tables.distance import draw_distance
from sharpcli.render.tables.doctor import draw_doctor
from sharpcli.render.tables.hessian import draw_hessian, draw_side_by_side
from sharpcli.render.tables.inspect import draw_inspect, draw_runs
from sharpcli.render.tables.interpolate import draw_barriers, draw_path
from sharpcli.render.tables.layout import lay_out, lay_out_facts
from sharpcli.render.tables.parts import Command, Facts, Part, Table
from sharpcli.render.tables.reparam import draw_reparam
from sharpcli.render.tables.sharpness import draw_measures, draw_sharpness
from sharpcli.render.tables.surface import draw_surface
from sharpcli.render.tables.train import draw_recipes, draw_train
from sharpcli.render.tables.watch import draw_watch
from sharpcli.results import (
    CompareResult,
    DistanceResult,
    DoctorResult,
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
    WatchResult,
)

# Replacements for signs on a terminal with ASCII only; other signs become question marks.
_PLAIN = str.maketrans("─–−…×‖₀", "---~x|0")


def show(results: Sequence[Result], to: Console) -> None:
    """Write the results of one command in lines of the console's width; in a pipe or a file nothing is folded."""
    show_parts(parts_of(results), to)


def show_parts(parts: Sequence[Part], to: Console) -> None:
    """Write parts of results in lines of the console's width; in a pipe or a file nothing is folded."""
    before = ""
    for part in parts:
        lines = _lines(part, usable(to.width))
        if before and isinstance(part, Table | Facts) and part.title:
            lines.insert(0, Text())
        for line in lines:
            if to.options.ascii_only:
                line.plain = line.plain.translate(_PLAIN)
            to.print(line, soft_wrap=True)
            before = line.plain


def parts_of(results: Sequence[Result]) -> list[Part]:
    """Return the parts of the results of one command, with a summary below several results of one kind."""
    drawn = [part for result in results for part in _DRAWERS[type(result)](result)]
    if len(results) > 1 and type(results[0]) in _SUMMARIES:
        drawn += _SUMMARIES[type(results[0])](results)
    return drawn


def _lines(part: Part, width: int) -> list[Text]:
    """Return the lines of one part of a result."""
    if isinstance(part, Table):
        return _title(part.title, width) + lay_out(part, width)
    if isinstance(part, Facts):
        return _title(part.title, width) + lay_out_facts(part, width)
    if isinstance(part, Command):
        return [Text(line) for line in fold_command(visible(part.text), width)]
    return [Text(line, style=part.style) for line in fold(visible(part.plain), width)]


def _title(text: str, width: int) -> list[Text]:
    return [Text(line, style="bold") for line in fold(visible(text), width)] if text else []


_DRAWERS: dict[type[Result], Callable[..., list[Part]]] = {
    HessianResult: draw_hessian,
    SharpnessResult: draw_sharpness,
    PathResult: draw_path,
    DistanceResult: draw_distance,
    CompareResult: draw_compare,
    InspectResult: draw_inspect,
    RunsResult: draw_runs,
    TrainResult: draw_train,
    RecipesResult: draw_recipes,
    MeasuresResult: draw_measures,
    ReparamResult: draw_reparam,
    DoctorResult: draw_doctor,
    SurfaceResult: draw_surface,
    WatchResult: draw_watch,
}

_SUMMARIES: dict[type[Result], Callable[..., list[Part]]] = {
    HessianResult: draw_side_by_side,
    PathResult: draw_barriers,
}
