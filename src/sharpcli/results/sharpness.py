"""Results of the measures of sharpness."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpcli.results.base import Conditions, Result, Subject


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One ε-sharpness. `phi` is a percentage and a lower bound of the true maximum; None if a search failed.

    In a random subspace it is the mean over draws of the subspace, `phi_of_draws`, with its standard error;
    each draw is the largest value of its L-BFGS-B solves (`phi_of_restarts`, draw by draw) and of its sign ascents
    (`phi_of_sign_ascent`). `evaluations` counts points, `passes` passes over the data; a gradient is two passes. `rise` is
    the rise of the loss at the best point in float64, minus a bound on the rounding error, as a mean over draws. `note` says
    why a search failed, or that it was made in float64.
    """

    measure: str
    epsilon: float
    subspace: int | None
    phi: float | None
    rise: float | None
    max_loss: float | None
    standard_error: float | None
    phi_of_draws: tuple[float | None, ...]
    phi_of_restarts: tuple[float | None, ...]
    phi_of_sign_ascent: tuple[float | None, ...]
    evaluations: int
    passes: int
    iterations: tuple[int, ...]
    share_at_bound: float | None
    status: str
    note: str = ""
    solver_messages: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The result of one measure. `value` is None if the measure failed, or if its chains have "not mixed".

    `bound` is "lower" if the value comes from an inexact search, None if it is exact or an estimate with a standard error.
    `passes` counts passes over the data; a gradient is two passes. `note` says why there is no value, or qualifies it.
    """

    measure: str
    options: dict[str, Any]
    label: str = ""
    value: float | None
    unit: str
    standard_error: float | None
    bound: str | None
    status: str
    details: dict[str, float | None]
    passes: int
    seconds: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """A measure of `sharpness`: its definition, invariances, limitations and cost."""

    name: str
    summary: str
    definition: str
    invariant: str
    misleads: str
    cost: str
    options: str
    reference: str


@dataclass(frozen=True, kw_only=True, repr=False)
class MeasuresResult(Result):
    """Every measure."""

    _headline = ("rows",)
    rows: tuple[MeasureRow, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return one row per measure."""
        return [asdict(row) for row in self.rows]


@dataclass(frozen=True, kw_only=True, repr=False)
class SharpnessResult(Result):
    """Keskar's ε-sharpness for each box size and subspace, and the readings of other measures."""

    _headline = ("checkpoint", "measurements", "readings")
    checkpoint: Subject
    conditions: Conditions
    loss: float
    accuracy: float | None
    gradient_norm: float
    weight_norm: float
    measurements: tuple[Measurement, ...]
    readings: tuple[Reading, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Return one row per measurement; the value of ε-sharpness is φ in percent."""
        rows = []
        for each in self.measurements:
            label = f"epsilon={each.epsilon:g}" + (f" subspace={each.subspace}" if each.subspace else "")
            number = {"value": each.phi, "unit": "%", "standard_error": each.standard_error, "bound": "lower"}
            rows.append({"measure": each.measure, "label": label, **number, "status": each.status, "note": each.note})
        for reading in self.readings:
            number = {"value": reading.value, "unit": reading.unit, "standard_error": reading.standard_error}
            about = {"bound": reading.bound, "status": reading.status, "note": reading.note}
            rows.append({"measure": reading.measure, "label": reading.label, **number, **about})
        return rows
