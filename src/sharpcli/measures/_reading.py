"""Common parts of measures: the form of a result, and the mean rise of the loss along random directions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import NumericalError, SettingsError
from sharpcli.measures._heights import Heights
from sharpcli.objective import Objective
from sharpcli.results import Reading

RELU_PAIRS, BATCH_NORM = "rescaled ReLU pairs", "rescaled layers before BatchNorm"
HEADS = "transformed attention heads"


@dataclass(eq=False)
class Meter:
    """Counts the cost of a measure, and makes its reading.

    Attributes:
        name: Name of the measure.
        objective: f.
        theta: Weights, shape (P,).
        options: Options as they were given.
        unit: Unit of the value.
        passes: Passes over the data; a gradient counts as two.
        evaluations: Number of points at which the loss was evaluated.
        flat: Whether every gradient so far was 0.
        known: f in float64, if it is available already.
    """

    name: str
    objective: Objective
    theta: Tensor
    options: Mapping[str, object]
    unit: str = "loss"
    passes: int = 0
    evaluations: int = 0
    flat: bool = True
    known: Heights | None = None
    _began: float = field(default_factory=time.perf_counter, init=False)

    @cached_property
    def base(self) -> float:
        """f(θ)."""
        return self.loss(torch.zeros_like(self.theta))

    @cached_property
    def heights(self) -> Heights:
        """The loss f in float64."""
        return self.known or Heights.of(self.objective, self.theta)

    def widened(self) -> Meter:
        """Return a meter for f in float64, which continues the counts."""
        wide = self.heights.widened()
        return replace(self, objective=wide, theta=self.heights.theta, flat=True, known=None)

    def take(self, other: Meter) -> None:
        """Set the counts to those of a meter that was made from this meter."""
        self.passes, self.evaluations, self.flat = other.passes, other.evaluations, other.flat

    def loss(self, offset: Tensor) -> float:
        """Return f(θ + offset)."""
        self.passes, self.evaluations = self.passes + 1, self.evaluations + 1
        return self.objective.loss((self.theta + offset).to(self.theta.dtype))

    def slope(self, offset: Tensor) -> tuple[float, Tensor]:
        """Return f and ∇f at θ + offset; the gradient has the type of θ."""
        self.passes, self.evaluations = self.passes + 2, self.evaluations + 1
        try:
            loss, gradient = self.objective.loss_and_gradient((self.theta + offset).to(self.theta.dtype))
        except NumericalError as error:
            moved = float(offset.abs().max())
            error.hint = f"It is not finite after a weight has changed by {moved:.3g}: use a smaller size."
            raise
        self.flat = self.flat and not bool(gradient.any())
        return loss, gradient.to(self.theta.dtype)

    def reading(
        self,
        value: float | None,
        *,
        standard_error: float | None = None,
        bound: str | None = None,
        note: str = "",
        **details: float | None,
    ) -> Reading:
        """Return the reading; if the value is None or not finite, the measure has failed, and its value is None, never 0."""
        solid = value is not None and math.isfinite(value)
        return Reading(
            measure=self.name,
            options=dict(self.options),
            value=value if solid else None,
            unit=self.unit,
            standard_error=standard_error if solid else None,
            bound=bound,
            status="ok" if solid else "failed",
            details=dict(details),
            passes=self.passes,
            seconds=time.perf_counter() - self._began,
            note=note,
        )


def require_positive(**options: float) -> None:
    """Refuse sizes that are not finite and greater than 0."""
    for name, value in options.items():
        if not math.isfinite(value) or value <= 0:
            raise SettingsError(f"The option {name} is {value:g}, but must be greater than 0.", f"Give {name} another value.")


def require_at_least(least: float, **options: float) -> None:
    """Refuse numbers that are not finite or are less than `least`."""
    for name, value in options.items():
        if not math.isfinite(value) or value < least:
            raise SettingsError(
                f"The option {name} is {value:g}, but must be at least {least:g}.", f"Give {name} another value."
            )


@dataclass(frozen=True)
class Mean:
    """A mean over random directions: its value, its standard error including rounding, and a note for the reader."""

    value: float
    standard_error: float | None
    note: str = ""


def mean_rise(meter: Meter, direction: Callable[[Tensor, int], Tensor], samples: int, size: float, label: str) -> Mean:
    """Return the mean over random directions d of ½ f(θ + s d) + ½ f(θ - s d) - f(θ), and its standard error.

    Both signs of each direction are used: the part that is odd in d has mean zero and would only be noise.

    Args:
        meter: The meter of f and θ.
        direction: Function from θ and a number to d, shape (P,).
        samples: Number of directions.
        size: s.
        label: Name in the progress display.
    """
    base, rises = meter.base, []
    with progress.task(label, total=samples, units="directions") as shown:
        for sample in range(samples):
            step = size * direction(meter.theta, sample)
            rises.append((meter.loss(step) + meter.loss(-step)) / 2 - base)
            shown.advance(1)
    values = torch.tensor(rises, dtype=torch.float64)
    return Mean(float(values.mean()), float(values.std() / samples**0.5) if samples > 1 else None)


def settled_mean_rise(meter: Meter, direction: Callable[[Tensor, int], Tensor], samples: int, size: float, label: str) -> Mean:
    """Return `mean_rise`, in float64 if rounding is not far below it; its error then includes the remaining rounding."""
    rise = mean_rise(meter, direction, samples, size, label)
    if meter.heights.is_clear(rise.value, meter.heights.at_weights):
        return rise
    note = ""
    if meter.theta.dtype != torch.float64:
        note, wide = "The rise is close to the rounding error in float32: measured in float64.", meter.widened()
        rise = mean_rise(wide, direction, samples, size, label)
        meter.take(wide)
        meter = wide
    rounding = 2 * meter.heights.at_weights.of_search
    if rounding and abs(rise.value) <= rounding:
        note = f"The mean rise is not larger than the rounding error in float64, {rounding:.1e}: its sign is not known."
    return Mean(rise.value, math.hypot(rise.standard_error or 0.0, rounding), note)
