"""Compute a lower bound of the rise of the loss from the weights to a point: in float64, minus the rounding error.

A search selects the highest of many values, and therefore also the largest positive rounding error. So its result is
evaluated again: in float64, at a point that is inside the ball also in float64, minus the possible rounding error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.errors import InputError, first_line
from sharpcli.modules import private_copy
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime

_FEW = 64  # Samples that show how large rounding is.
_FINER = float(torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps)
_SAFETY = 4.0  # Kernels of the two precisions add in different orders.
_OF_SUMS = 8 * torch.finfo(torch.float64).eps  # Rounding error of a mean over samples, relative to the mean.
_CLEAR = 1e3  # A search is not affected by rounding if the rise is this many times larger.


class Errors(NamedTuple):
    """The possible rounding errors of f: of `Heights.loss`, and of the evaluations of a search in its own type."""

    measured: float
    of_search: float


@dataclass(frozen=True, eq=False)
class Heights:
    """f in float64, and its rounding error, from a few samples in both precisions.

    `Heights.of` makes an instance. If the device has no float64, the CPU is used.

    Attributes:
        given: f, as the search evaluates it.
        wide: f in float64; its samples are converted only when they are used.
        narrow: f in float32.
        theta: Shape (P,), in float64.
        passes: Number of passes over the data, in a list.
    """

    given: Objective
    wide: Objective
    narrow: Objective
    theta: Tensor
    passes: list[int] = field(default_factory=lambda: [0])

    @staticmethod
    def of(objective: Objective, theta: Tensor) -> Heights:
        """Make copies of the model in both precisions."""
        wide = _in(objective, torch.float64)
        narrow = objective if objective.runtime.dtype == torch.float32 else _in(objective, torch.float32)
        return Heights(objective, wide, narrow, theta.to(wide.runtime.device, torch.float64))

    def loss(self, offset: Tensor | None = None) -> float:
        """Return f(θ + offset)."""
        self.passes[0] += 1
        weights = self._weights(offset)
        with torch.no_grad():
            return float(self.wide.mean_over_data(lambda chunk: _terms(self.wide, weights, chunk).sum(), weights))

    def errors(self, offset: Tensor | None = None) -> Errors:
        """Return the possible rounding errors of f(θ + offset), from a few samples.

        Rounding errors are proportional to the unit roundoff, so the error of a term in float64 is computed from its error
        in float32. The mean size of these errors over a few samples is more than the error of the mean.
        """
        exact, coarse = (self._few(which, offset, precise=True) for which in (self.wide, self.narrow))
        error = (coarse - exact).abs()
        error = torch.where(torch.isfinite(error), error, exact.abs())
        measured = _SAFETY * _FINER * self._mean(error) + _OF_SUMS * self._mean(exact.abs())
        return Errors(measured, self._mean((self._few(self.given, offset, precise=False) - exact).abs()) + measured)

    @cached_property
    def at_weights(self) -> Errors:
        """The errors at θ."""
        return self.errors()

    def is_clear(self, rise: float, there: Errors) -> bool:
        """Return whether a rise from θ to a point, computed by a search, is far above its rounding error."""
        return abs(rise) > _CLEAR * (self.at_weights.of_search + there.of_search)

    def widened(self) -> Objective:
        """Return f in float64 with its samples."""
        return self.wide.placed()

    def among(self, chosen: Tensor) -> Heights:
        """Return the same for some of the samples, by their indices."""
        given, wide, narrow = (part.among(chosen) for part in (self.given, self.wide, self.narrow))
        return Heights(given, wide, narrow, self.theta)

    def _few(self, objective: Objective, offset: Tensor | None, *, precise: bool) -> Tensor:
        """Return the loss terms of a few samples in float64, as an objective computes them."""
        few = objective.among(self._chosen()).alone()
        weights = self._weights(offset).to(objective.runtime.dtype).to(objective.runtime.device)
        with torch.no_grad(), few.arithmetic():
            terms = [_terms(few, weights, chunk, precise=precise).flatten() for chunk in few.chunks()]
        return torch.cat(terms).cpu().double()

    def _chosen(self) -> Tensor:
        """Return the indices of the few samples, spread over all samples, since data may be sorted."""
        counted = self.given.criterion.has_terms(self.given.targets).nonzero()[:, 0]
        return counted[torch.linspace(0, len(counted) - 1, min(_FEW, len(counted)), device=counted.device).long()]

    def _mean(self, terms: Tensor) -> float:
        return float(terms.sum()) / (self.given.criterion.total_weight(self.given.targets[self._chosen()]) or 1)

    def _weights(self, offset: Tensor | None) -> Tensor:
        return self.theta if offset is None else self.theta + offset.to(self.theta)


def _in(objective: Objective, dtype: torch.dtype) -> Objective:
    """Return an objective whose model has another precision, on the CPU if the device does not support it."""
    here = objective.runtime.device
    device = torch.device("cpu") if objective.runtime.accumulator != torch.float64 and dtype == torch.float64 else here
    made = replace(objective, model=private_copy(objective.model).to(device, dtype), runtime=Runtime(device, dtype))
    chunk = made.converted(objective.few())
    try:
        with torch.no_grad(), made.arithmetic():
            made.loss_sum(made.space.split(objective.parameters().to(device, dtype)), chunk)
    except Exception as error:  # A model of the user may raise anything.
        precision = str(dtype).removeprefix("torch.")
        raise InputError(
            f"The model does not run in {precision}, which this measure needs in addition to its --dtype: {first_line(error)}.",
            "In forward, create new tensors with the dtype of the inputs, such as torch.zeros(..., dtype=x.dtype).",
        ) from error
    return made


def _terms(objective: Objective, theta: Tensor, chunk: Chunk, *, precise: bool = True) -> Tensor:
    """Return the loss terms of a chunk."""
    return objective.loss_terms(objective.space.split(theta), chunk, precise=precise)


@dataclass(frozen=True, eq=False)
class Rise:
    """A lower bound of the rise from the weights to a point; None if it is not above the rounding error."""

    value: float | None
    base: float
    note: str

    @staticmethod
    def to(offset: Tensor, heights: Heights, base: float, errors: Errors | None = None) -> Rise:
        """Measure the rise to θ + offset.

        Args:
            offset: Shape (P,), in float64.
            heights: The heights of f and θ.
            base: f(θ), from `Heights.loss`.
            errors: The errors at θ + offset, if they are known.
        """
        top = heights.loss(offset)
        rise, rounding = top - base, heights.at_weights.measured + (errors or heights.errors(offset)).measured
        if not math.isfinite(rise):
            return Rise(None, base, "The loss is not finite at the highest point: use a smaller size.")
        if rise > rounding:
            return Rise(rise - rounding, base, "")
        if rise <= 0:
            return Rise(None, base, "No point with a higher loss than at the weights was found.")
        seen = f"The largest rise is {rise:.1e}, and the rounding error in float64 may be {rounding:.1e}"
        return Rise(None, base, f"{seen}: a rise is not proved.")
