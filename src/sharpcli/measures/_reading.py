"""What measures share: the shape of an answer, random directions, and how the loss rises along them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import NumericalError, SettingsError
from sharpcli.objective import Objective
from sharpcli.results import Reading
from sharpcli.runtime import generator

RELU_PAIRS, BATCH_NORM = "rescaled ReLU pairs", "rescaled layers before BatchNorm"


@dataclass(eq=False)
class Meter:
    """Counts what a measure costs, and makes its reading.

    Attributes:
        name: Of the measure.
        objective: f.
        theta: Weights, shape (P,).
        options: As they were asked for.
        unit: Of the value.
        passes: Over the data, a gradient as two.
        evaluations: Points at which the loss was asked for.
    """

    name: str
    objective: Objective
    theta: Tensor
    options: Mapping[str, object]
    unit: str = "loss"
    passes: int = 0
    evaluations: int = 0
    _began: float = field(default_factory=time.perf_counter, init=False)

    def loss(self, offset: Tensor) -> float:
        """Return f(θ + offset)."""
        self.passes, self.evaluations = self.passes + 1, self.evaluations + 1
        return self.objective.loss(self.theta + offset)

    def slope(self, offset: Tensor) -> tuple[float, Tensor]:
        """Return f and ∇f at θ + offset, the gradient of the type of θ."""
        self.passes, self.evaluations = self.passes + 2, self.evaluations + 1
        try:
            loss, gradient = self.objective.loss_and_gradient(self.theta + offset)
        except NumericalError as error:
            moved = float(offset.abs().max())
            error.hint = f"It is not finite where a weight has moved by {moved:.3g}: use a smaller size."
            raise
        return loss, gradient.to(self.theta.dtype)

    def reading(
        self, value: float | None, *, standard_error: float | None = None, bound: str | None = None, **details: float | None
    ) -> Reading:
        """Return the answer; without a value, or with one that is not finite, the measure has failed, which is never 0."""
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
        )


def require_positive(**options: float) -> None:
    """Refuse sizes that are not finite and greater than 0."""
    for name, value in options.items():
        if not math.isfinite(value) or value <= 0:
            raise SettingsError(f"The option {name} is {value:g}, but must be greater than 0.", f"Give {name} another value.")


def require_radius(**options: float) -> None:
    """Refuse radii that are not finite or below 0; a radius of 0 gives 0."""
    for name, value in options.items():
        if not math.isfinite(value) or value < 0:
            raise SettingsError(f"The option {name} is {value:g}, but must be at least 0.", f"Give {name} another value.")


def gaussian(theta: Tensor, *seeds: int) -> Tensor:
    """Return independent N(0, 1) numbers of the shape and type of θ, the same on every device."""
    return torch.randn(len(theta), generator=generator(*seeds)).to(theta.device, theta.dtype)


def mean_rise(
    meter: Meter, direction: Callable[[int], Tensor], samples: int, size: float, label: str
) -> tuple[float, float | None]:
    """Return the mean over random directions d of ½ f(θ + s d) + ½ f(θ - s d) - f(θ), and its standard error.

    Both signs of each direction are used: what is odd in d has mean zero and would only be noise.
    """
    base, rises = meter.loss(torch.zeros_like(meter.theta)), []
    with progress.task(label, total=samples) as shown:
        for sample in range(samples):
            step = size * direction(sample)
            rises.append((meter.loss(step) + meter.loss(-step)) / 2 - base)
            shown.advance(1)
    values = torch.tensor(rises, dtype=torch.float64)
    error = float(values.std() / samples**0.5) if samples > 1 else None
    return float(values.mean()), error
