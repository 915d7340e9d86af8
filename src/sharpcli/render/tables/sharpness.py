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
    Measurement,
    MeasuresResult,
    Reading,
    SharpnessResult,
)


def draw_sharpness(result: SharpnessResult) -> list[Part]:
    """Return the readings of measures, or Keskar's ε-sharpness if no measure was named."""
    return _readings(result) if result.readings else _measurements(result)


def _readings(result: SharpnessResult) -> list[Part]:
    table = new_table(f"Sharpness of {heading(result.checkpoint)}", "measure", "value", "unit", "passes", "seconds")
    for reading in result.readings:
        sign = "≥ " if reading.bound == "lower" and reading.value else ""
        value = reading.status if reading.value is None else f"{sign}{_with_error(reading.value, reading.standard_error)}"
        table.add_row(reading.label, value, reading.unit, str(reading.passes), f"{reading.seconds:.1f}")
    remarks = [dim(f"{reading.label}: {', '.join(details)}") for reading in result.readings if (details := _details(reading))]
    remarks += [Text(f"{reading.label}: {reading.note}") for reading in result.readings if reading.note]
    under = conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm)
    note = dim(
        "≥: lower bound from a search, evaluated in float64; ±: standard error over random draws; ‖w‖ = "
        f"{result.weight_norm:.4g}. Definitions and limitations: sharpcli sharpness --list"
    )
    return [table, *remarks, under, note, Text()]


def _details(reading: Reading) -> list[str]:
    return [f"{key.replace('_', ' ')} {number(value)}" for key, value in reading.details.items() if value is not None]


def _with_error(value: float | None, error: float | None) -> str:
    return number(value) if value is None or error is None else plus_minus(value, error)


def draw_measures(result: MeasuresResult) -> list[Part]:
    """Return every measure with its definition, invariances, limitations and cost."""
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
        Text("Use a measure with 'sharpcli sharpness CKPT --measure NAME:OPTION=VALUE,...', or all with --measure all."),
    ]


def _measurements(result: SharpnessResult) -> list[Part]:
    table = new_table(
        f"ε-sharpness of {heading(result.checkpoint)}",
        "subspace", "epsilon", "phi", "phi of L-BFGS-B", "phi of ascent", "rise", "share at bound", "evaluations",
        "status",
    )  # fmt: skip
    for measurement in result.measurements:
        table.add_row(
            _subspace(measurement),
            f"{measurement.epsilon:g}",
            _with_error(measurement.phi, measurement.standard_error),
            ", ".join(number(phi) for phi in measurement.phi_of_restarts),
            ", ".join(number(phi) for phi in measurement.phi_of_sign_ascent),
            number(measurement.rise),
            percent(measurement.share_at_bound),
            str(measurement.evaluations),
            measurement.status,
        )
    remarks = [
        Text(f"{_subspace(measurement)}, epsilon {measurement.epsilon:g}: {measurement.note}")
        for measurement in result.measurements
        if measurement.note
    ]
    under = conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm)
    note = dim(
        "phi = 100 (max f − f) / (1 + f), Keskar 2017 eq. 3: a lower bound, the largest value of all searches, in float64; "
        "for p > 0 the mean over random subspaces ± standard error; "
        f"it grows with P and with ‖w‖ = {result.weight_norm:.4g}; {result.seconds:.1f} s"
    )
    return [table, *remarks, under, note, Text()]


def _subspace(measurement: Measurement) -> str:
    return f"p = {measurement.subspace}" if measurement.subspace else "full"
