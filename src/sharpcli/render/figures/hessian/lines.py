"""The lines of a figure: for each result of `hessian` its name, its style, and whether it is a step of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sharpcli.render.figures.style import faded, styles
from sharpcli.render.labels import distinct
from sharpcli.results import Eigenvalue, HessianResult

_RUN = 3  # Results with at least this number of distinct steps are drawn along the run.
_FAINT = 0.5  # Strength of the colour of the first steps.


@dataclass(frozen=True)
class Line:
    """A result and how it is drawn.

    Attributes:
        result: What is drawn.
        owner: Short name of the checkpoint or run.
        name: `owner` with the split, and the loss if there is one line per result.
        style: Colour, marker and dash.
        strength: Part of the colour that is not white.
    """

    result: HessianResult
    owner: str
    name: str
    style: dict[str, Any]
    strength: float = 1.0

    @property
    def colour(self) -> tuple[float, ...]:
        """The colour as it is drawn."""
        return faded(self.style["color"], self.strength)

    def markers(self, *, filled: bool, size: float = 5) -> dict[str, Any]:
        """Return how points are drawn: filled is certified, hollow is not."""
        fill = self.colour if filled else "white"
        style = {"color": self.colour, "markerfacecolor": fill, "markeredgecolor": self.colour}
        return {**style, "marker": self.style["marker"], "markersize": size, "linestyle": "none"}

    def finite(self) -> list[Eigenvalue]:
        """Return the eigenvalues that are finite."""
        return [eigenvalue for eigenvalue in self.result.eigenvalues if math.isfinite(eigenvalue.value)]


def runs_of(results: Sequence[HessianResult]) -> dict[tuple[str, str], list[HessianResult]]:
    """Return the results of each run folder and split in the order of their steps; none if no run has several steps."""
    runs: dict[tuple[str, str], list[HessianResult]] = {}
    for result in results:
        runs.setdefault((str(PurePath(result.checkpoint.path).parent), result.conditions.split), []).append(result)
    if not any(len({result.checkpoint.step for result in run} - {None}) >= _RUN for run in runs.values()):
        return {}
    return {key: sorted(run, key=lambda result: result.checkpoint.step or 0) for key, run in runs.items()}


def side_by_side(results: Sequence[HessianResult]) -> list[Line]:
    """Return a line for each result, named by its checkpoint and the split with its loss."""
    names = distinct([result.checkpoint for result in results])
    return [
        Line(result, name, f"{name} ({result.conditions.split} loss {result.loss:.3g})", style)
        for name, result, style in zip(names, results, styles(), strict=False)
    ]


def course(runs: dict[tuple[str, str], list[HessianResult]]) -> list[Line]:
    """Return a line for each result; lines of one run have one name and style, and earlier ones are fainter."""
    folders = dict.fromkeys(PurePath(folder) for folder, _ in runs)
    choices = ([folder.name, f"{folder.parent.name}/{folder.name}", str(folder)] for folder in folders)
    names = next((level for level in zip(*choices, strict=True) if len(set(level)) == len(folders)), ())
    owners = dict(zip(folders, names, strict=True))
    lines = []
    for ((folder, split), run), style in zip(runs.items(), styles(), strict=False):
        owner = owners[PurePath(folder)]
        for place, result in enumerate(run):
            late = 1.0 if len(run) == 1 else place / (len(run) - 1)
            lines.append(Line(result, owner, f"{owner} ({split})", style, _FAINT * (1 - late) + late))
    return lines


def few(lines: Sequence[Line]) -> list[Line]:
    """Return the first, middle and last step of each run, and all lines that are not part of a run."""
    chosen: list[Line] = []
    for own in by_name(lines).values():
        is_run = own[-1].strength > own[0].strength
        chosen += [own[place] for place in sorted({0, len(own) // 2, len(own) - 1})] if is_run else own
    return chosen


def by_name(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return the lines of each name, in their order."""
    named: dict[str, list[Line]] = {}
    for line in lines:
        named.setdefault(line.name, []).append(line)
    return named
