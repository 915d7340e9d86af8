"""Eigenvalues as figures: against their index, along a run, and the convergence of the search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sharpcli.render.figures.hessian.lines import Line, by_name
from sharpcli.render.figures.style import legend_below, mark_decades, mesh, plain_number, set_marks
from sharpcli.render.labels import MATRICES, edge, edge_name
from sharpcli.results import Eigenvalue

_LOG_STEPS = 30.0  # A run whose steps span more than this factor is drawn on a logarithmic axis.
_MANY_STEPS = 16  # More points along a run than these are drawn smaller.
_IN_SIGHT = 3.0  # 2/lr is drawn up to this multiple of the largest eigenvalue.
_NARROW = 5.0  # Numbers of sizes within this factor are drawn on a linear axis.
_TINY = 1e-3  # Part of the largest size below which an axis with both signs is linear in any case.
_FAINT = 0.5  # Strength of the colour of all but the first eigenvalue.
_ALL_MARKED = 13  # Up to this number of indices, all are marked on their axis.
_LOOSEST = 0.01  # A search does not stop at a larger relative residual, whatever the tolerance.
_MOST_MARKS = 11  # Largest number of marks on the axis of more indices.


def draw_eigenvalues(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw eigenvalue against index: the largest from the left, the smallest at the right end, after a gap."""
    every = [eigenvalue for line in lines for eigenvalue in line.finite()]
    top, bottom = max(max(eigenvalue.index for eigenvalue in every), 0), max(max(-eigenvalue.index for eigenvalue in every), 0)
    gap = max(1, round(0.1 * (top + bottom))) if top and bottom else 0
    size, step = top + gap + bottom, min(0.16, 0.6 / len(lines))
    for place, line in enumerate(lines):
        shift = step * (place - (len(lines) - 1) / 2)
        for sign in (1, -1):
            end = [eigenvalue for eigenvalue in line.finite() if eigenvalue.index * sign > 0]
            where = [(eigenvalue.index if sign > 0 else size + 1 + eigenvalue.index) + shift for eigenvalue in end]
            axes.plot(
                where,
                [eigenvalue.value for eigenvalue in end],
                color=line.colour,
                linestyle=line.style["linestyle"],
                linewidth=0.9,
            )
            _points(axes, line, where, end)
    if gap:
        axes.axvline(top + (gap + 1) / 2, color="0.75", linewidth=0.8, linestyle=(0, (2, 3)))
    marks = {rank: rank for rank in _ranks(top, size)} | {size + 1 - rank: -rank for rank in _ranks(bottom, size)}
    set_marks(axes.xaxis, sorted(marks), [plain_number(marks[place]) for place in sorted(marks)])
    margin = max(0.6, 0.025 * size)
    axes.set_xlim(1 - margin, size + margin)
    thresholds = _thresholds(lines)
    for (threshold, owners), dash in zip(thresholds.items(), (":", "-.", "--") * len(thresholds), strict=False):
        label = f"{_threshold_name(lines)} = {_short(threshold)}" + (
            f" of {', '.join(owners)}" if len(by_name(lines)) > 1 else ""
        )
        axes.axhline(threshold, color="0.3", linestyle=dash, linewidth=1.1, label=label)
    _scale_values(axes, lines, list(thresholds))
    ends = "1: largest, \N{MINUS SIGN}1: smallest" if top and bottom else "1: largest" if top else "\N{MINUS SIGN}1: smallest"
    if lines[0].result.settings.get("which") == "LM":
        ends = ends.replace("largest", "largest |λ|")
    axes.set(xlabel=f"index k ({ends})", ylabel=f"eigenvalue λₖ of the {MATRICES[lines[0].result.operator][0]}")
    axes.set_title("Eigenvalues")
    _explain_points(axes, lines, every)
    mesh(axes)
    legend_below(axes)


def _thresholds(lines: Sequence[Line]) -> dict[float, list[str]]:
    """Return each threshold (`labels.edge`) that is near enough to the eigenvalues to be drawn, and the names of its runs."""
    top = max(eigenvalue.value for line in lines for eigenvalue in line.finite())
    owners: dict[float, list[str]] = {}
    for line in lines:
        threshold = edge(line.result)
        if threshold is not None and 0 < threshold < _IN_SIGHT * top:
            owners[threshold] = list(dict.fromkeys([*owners.get(threshold, []), line.owner]))
    return owners


def _threshold_name(lines: Sequence[Line]) -> str:
    """Return the threshold of these results as text, such as 2/lr, 3.8/lr with momentum, or 38/lr."""
    return " or ".join(dict.fromkeys(edge_name(line.result) for line in lines if line.result.stability_threshold))


def draw_course(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw eigenvalues against the step of a run, the first one with a thicker line."""
    every = [eigenvalue for line in lines for eigenvalue in line.finite()]
    main = min((eigenvalue.index for eigenvalue in every), key=lambda index: (index < 0, abs(index)))
    steps = sorted({line.result.checkpoint.step or 0 for line in lines})
    thresholds = _thresholds(lines)
    for own in by_name(lines).values():
        style = own[-1].style
        for index in sorted(
            {eigenvalue.index for line in own for eigenvalue in line.finite()}, key=lambda index: index == main
        ):
            points = [
                (line.result.checkpoint.step or 0, eigenvalue)
                for line in own
                for eigenvalue in line.finite()
                if eigenvalue.index == index
            ]
            curve = Line(own[-1].result, "", "", style, 1.0 if index == main else _FAINT)
            where, values = [step for step, _ in points], [eigenvalue for _, eigenvalue in points]
            wide, heights = 1.6 if index == main else 0.9, [eigenvalue.value for eigenvalue in values]
            axes.plot(where, heights, color=curve.colour, linestyle=style["linestyle"], linewidth=wide)
            _points(axes, curve, where, values, size=(5.5 if index == main else 3) * (0.6 if len(steps) > _MANY_STEPS else 1))
        limits = [(line.result.checkpoint.step or 0, edge(line.result)) for line in own]
        limits = [(step, limit) for step, limit in limits if limit in thresholds]
        if limits:
            label = f"{_threshold_name(own)} = " + ", ".join(dict.fromkeys(_short(limit) for _, limit in limits if limit))
            label += f" of {own[0].owner}" if len(thresholds) > 1 else ""
            known = axes.get_legend_handles_labels()[1]
            colour = style["color"] if len(thresholds) > 1 else "0.3"
            axes.plot(
                *zip(*limits, strict=True), color=colour, linestyle=":", linewidth=1.2, label=label * (label not in known)
            )
    first = next((step for step in steps if step > 0), 0)
    if first and steps[-1] > _LOG_STEPS * first:
        if steps[0] > 0:
            axes.set_xscale("log")
        else:  # The initial weights have step 0, which no logarithmic axis has.
            axes.set_xscale("symlog", linthresh=first, linscale=0.4)
            axes.set_xlim(left=-0.2 * first)
        low, high = axes.get_xlim()
        mark_decades(axes.xaxis, low, high, low if steps[0] > 0 else first)
    _scale_values(axes, lines, list(thresholds))
    axes.set(xlabel="updates", ylabel=f"eigenvalue of the {MATRICES[lines[0].result.operator][0]}")
    axes.set_title("Eigenvalues along the run")
    others = sorted({eigenvalue.index for eigenvalue in every} - {main}, key=lambda index: (index < 0, abs(index)))
    axes.plot([], [], color="0.3", linewidth=1.6, label=f"k = {plain_number(main)}")
    if others:
        axes.plot([], [], color="0.7", linewidth=0.9, label="k = " + ", ".join(_spans(others)))
    _explain_points(axes, lines, every)
    mesh(axes)
    legend_below(axes)


def _spans(indices: Sequence[int]) -> Iterator[str]:
    """Write 2, 3, 4, -2, -1 as 2 to 4 and -1 to -2."""
    for own in ([index for index in indices if index > 0], [index for index in indices if index < 0]):
        if own:
            ends = [plain_number(own[0]), plain_number(own[-1])]
            yield " to ".join(dict.fromkeys(ends))


def _points(axes: Axes, line: Line, where: Sequence[float], eigenvalues: Sequence[Eigenvalue], size: float = 5) -> None:
    """Draw eigenvalues with their bars: filled where certified, hollow otherwise."""
    for filled in (True, False):
        chosen = [
            (place, eigenvalue)
            for place, eigenvalue in zip(where, eigenvalues, strict=True)
            if (eigenvalue.verdict == "certified") is filled
        ]
        if chosen:
            bars = list(zip(*(_reach(eigenvalue) for _, eigenvalue in chosen), strict=True))
            values = [eigenvalue.value for _, eigenvalue in chosen]
            axes.errorbar(
                [place for place, _ in chosen],
                values,
                yerr=bars,
                capsize=3,
                elinewidth=1,
                **line.markers(filled=filled, size=size),
            )


def _reach(eigenvalue: Eigenvalue) -> tuple[float, float]:
    """Return the lengths of the error bar below and above an eigenvalue: its interval, or its residual if it has none."""
    low, high = eigenvalue.interval or (eigenvalue.value - eigenvalue.residual, eigenvalue.value + eigenvalue.residual)
    down, up = (max(end, 0.0) if math.isfinite(end) else 0.0 for end in (eigenvalue.value - low, high - eigenvalue.value))
    return down, up


def _explain_points(axes: Axes, lines: Sequence[Line], every: Sequence[Eigenvalue]) -> None:
    """Explain filled points, hollow points and bars in the legend, with the length of the longest bar."""
    grey = Line(lines[0].result, "", "", {**lines[0].style, "color": "#555555"})
    verdicts = list(dict.fromkeys(eigenvalue.verdict for eigenvalue in every))
    hollow = [verdict for verdict in verdicts if verdict != "certified"]
    if "certified" in verdicts:
        axes.plot([], [], label="certified", **grey.markers(filled=True))
    if hollow:
        axes.plot([], [], label=", ".join(hollow), **grey.markers(filled=False))
    bar: dict[str, Any] = {**grey.markers(filled=True, size=8), "marker": "|", "markeredgewidth": 1}
    for word, eigenvalues in (
        ("interval", [eigenvalue for eigenvalue in every if eigenvalue.interval]),
        ("residual", [eigenvalue for eigenvalue in every if not eigenvalue.interval]),
    ):
        if eigenvalues:
            longest = plain_number(_rounded_up(max(max(_reach(eigenvalue)) for eigenvalue in eigenvalues)))
            axes.plot([], [], label=f"bar: {word}, at most ± {longest}", **bar)


def _short(value: float) -> str:
    return plain_number(float(f"{value:.4g}"))


def _rounded_up(value: float) -> float:
    """Return the number rounded up to two digits."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit - 1e-9) * unit


def _scale_values(axes: Axes, lines: Sequence[Line], more: Sequence[float]) -> None:
    """Choose the axis for eigenvalues: linear, logarithmic, or logarithmic on both sides of zero."""
    every = [eigenvalue for line in lines for eigenvalue in line.finite()]
    sizes = [size for size in (*(max(abs(eigenvalue.value), *_reach(eigenvalue)) for eigenvalue in every), *more) if size]
    lowest = min(eigenvalue.value - _reach(eigenvalue)[0] for eigenvalue in every)
    if any(eigenvalue.value <= 0 for eigenvalue in every):
        axes.axhline(0, color="0.6", linewidth=0.8)
    if not sizes or max(sizes) < _NARROW * min(sizes):
        axes.ticklabel_format(axis="y", useOffset=False)  # An offset in a corner is easily missed.
        return
    if lowest > 0:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        mark_decades(axes.yaxis, low, high, low)
        return
    linear = 10.0 ** math.floor(math.log10(max(min(sizes), _TINY * max(sizes))))
    axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
    mark_decades(axes.yaxis, *axes.get_ylim(), 0.99 * linear)


def history_of(line: Line) -> list[tuple[int, float]]:
    """Return (products, largest relative residual) where a logarithmic axis can show it."""
    return [(products, size) for products, size in line.result.residual_history if math.isfinite(size) and size > 0]


def draw_search(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw the largest relative residual against products, and the tolerance."""
    for line in lines:
        history = history_of(line)
        if history:
            axes.plot(
                *zip(*history, strict=True), color=line.colour, linestyle=line.style["linestyle"], linewidth=1.1
            )  # fmt: skip
            axes.plot(*history[-1], **line.markers(filled=line.result.converged))
    tolerances = {min(line.result.settings["tol"], _LOOSEST) for line in lines}
    for tolerance in sorted(tolerances):
        axes.axhline(tolerance, color="0.3", linestyle=":", linewidth=1.2, label=f"tolerance {plain_number(tolerance)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yscale("log")
    sizes = [size for line in lines for _, size in history_of(line)] + list(tolerances)
    low, high = min(sizes) / 2, 2 * max(sizes)
    axes.set_ylim(low, high)
    mark_decades(axes.yaxis, low, high, low)
    letter = MATRICES[lines[0].result.operator][1]
    axes.set_xlabel(f"products with {letter}")
    axes.set_ylabel(f"largest residual ‖{letter}v \N{MINUS SIGN} λv‖ / |λ|", labelpad=7)
    axes.set_title("Convergence" + (" (faint: early steps)" if any(line.strength < 1 for line in lines) else ""))
    grey = Line(lines[0].result, "", "", {**lines[0].style, "color": "#555555"})
    for converged in sorted({line.result.converged for line in lines}, reverse=True):
        axes.plot([], [], label="all certified" if converged else "not all certified", **grey.markers(filled=converged))
    mesh(axes)
    legend_below(axes)


def _ranks(count: int, total: int) -> list[int]:
    """Return which of the ranks 1 to count are marked on an axis of `total` ranks: all, or 1 and multiples of a number."""
    strides = (1, *(digit * 10**power for power in range(9) for digit in (5, 10, 20)))
    stride = next(stride for stride in strides if total <= (_ALL_MARKED if stride == 1 else stride * _MOST_MARKS))
    return [rank for rank in range(1, count + 1) if rank == 1 or (rank % stride == 0 and rank - 1 >= 0.75 * stride)]
