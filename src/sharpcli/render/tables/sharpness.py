"""Tables of measures of sharpness."""

from __future__ import annotations

from rich.text import Text

from sharpcli.render.tables.parts import (
    Facts,
    Part,
    conditions_line,
    dim,
    heading,
    new_table,
    number,
    percent,
    plus_minus,
)
from sharpcli.results import (
    MeasuresResult,
    SharpnessResult,
)


def draw_sharpness(result: SharpnessResult) -> list[Part]:
    """Return readings, or Keskar's measurements where no measure was named."""
    return _readings(result) if result.readings else _measurements(result)


def _readings(result: SharpnessResult) -> list[Part]:
    table = new_table(f"Sharpness of {heading(result.checkpoint)}", "measure", "value", "unit", "passes", "seconds")
    for one in result.readings:
        sign = "≥ " if one.bound == "lower" and one.value else ""
        shown = one.status if one.value is None else f"{sign}{_with_error(one.value, one.standard_error)}"
        table.add_row(one.label, shown, one.unit, str(one.passes), f"{one.seconds:.1f}")
    told = [
        dim(f"{one.label}: {', '.join(known)}")
        for one in result.readings
        if (known := [f"{key.replace('_', ' ')} {number(value)}" for key, value in one.details.items() if value is not None])
    ]
    told += [Text(f"{one.label}: {one.note}") for one in result.readings if one.note]
    under = conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm)
    note = dim(
        "≥: a lower bound from a search, measured in float64; ± standard error over random draws; ‖w‖ = "
        f"{result.weight_norm:.4g}. What each means, and when it misleads: sharpcli sharpness --list"
    )
    return [table, *told, under, note, Text()]


def _with_error(value: float | None, error: float | None) -> str:
    return number(value) if value is None or error is None else plus_minus(value, error)


def draw_measures(result: MeasuresResult) -> list[Part]:
    """Return every measure with what a reader must know."""
    parts: list[Part] = []
    for row in result.rows:
        lines = {
            "summary": row.summary,
            "definition": row.definition, "options": row.options, "invariant under": row.invariant, "misleads": row.misleads,
            "cost": row.cost, "paper": row.reference,
        }  # fmt: skip
        parts.append(Facts(row.name, [(name, line) for name, line in lines.items() if line]))
    return [
        *parts,
        Text(),
        Text("Use one with 'sharpcli sharpness CKPT --measure NAME:OPTION=VALUE,...', or all of them with --measure all."),
    ]


def _measurements(result: SharpnessResult) -> list[Part]:
    table = new_table(
        f"ε-sharpness of {heading(result.checkpoint)}",
        "subspace", "epsilon", "phi", "phi of L-BFGS-B", "phi of ascent", "rise", "share at bound", "evaluations",
        "status",
    )  # fmt: skip
    for one in result.measurements:
        table.add_row(
            f"p = {one.subspace}" if one.subspace else "full",
            f"{one.epsilon:g}",
            _with_error(one.phi, one.standard_error),
            ", ".join(number(phi) for phi in one.phi_of_restarts),
            ", ".join(number(phi) for phi in one.phi_of_sign_ascent),
            number(one.rise),
            percent(one.share_at_bound),
            str(one.evaluations),
            one.status,
        )
    told = [
        Text(f"{f'p = {one.subspace}' if one.subspace else 'full'}, epsilon {one.epsilon:g}: {one.note}")
        for one in result.measurements
        if one.note
    ]
    under = conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm)
    note = dim(
        "phi = 100 (max f − f) / (1 + f), Keskar 2017 eq. 3: a lower bound, the best of all searches in float64; "
        "for p > 0 the mean over random subspaces ± standard error; "
        f"it grows with P and with ‖w‖ = {result.weight_norm:.4g}, {result.seconds:.1f} s"
    )
    return [table, *told, under, note, Text()]
