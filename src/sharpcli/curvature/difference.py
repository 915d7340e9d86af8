"""Products by central differences in float64, for models whose second derivative is missing or wrong in torch.

(g(θ + tv) - g(θ - tv)) / 2t is Jv up to an error of order t², if there is no kink between the two points, and up to the
rounding of g divided by t. Each kink between them, such as that of a ReLU, adds its jump divided by 2t. So t must be small
compared with the distance to the next kink and large compared with rounding. No step is suitable for all data. The step is
chosen for each chunk of samples separately: steps decrease by a factor of ten until two of them agree. The disagreement of
these two is the uncertainty of the product; it is summed for the certificate. For a loss that is a step function (a
staircase), two steps can agree on a wrong product, since its stairs are wider than the steps; `soundness` refuses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective

STEPS = tuple(10.0**power for power in range(-6, -12, -1))  # Relative to ‖θ‖.
_AGREEMENT = 1e-8  # Relative difference of two steps below which no smaller step is tried.


class Rule(Protocol):
    """The function g that is differenced, and how a product is computed from it."""

    def field(self, objective: Objective, chunk: Chunk, theta: Tensor) -> Tensor:
        """Return g(θ), of any shape."""

    def finished(self, objective: Objective, chunk: Chunk, theta: Tensor, along: Tensor) -> Tensor:
        """Return the product, shape (P,), from Jv, which has the shape of g."""


class GradientDifferences:
    """Hv is Jv itself, with g the gradient of the summed loss of a chunk."""

    def field(self, objective: Objective, chunk: Chunk, theta: Tensor) -> Tensor:
        """Return the gradient, shape (P,)."""
        leaves = objective.leaves(theta)

        def slopes() -> Tensor:
            loss = objective.loss_sum(leaves, chunk)
            parts = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return objective.space.flatten(parts)

        return objective.at(theta, slopes)

    def finished(self, objective: Objective, chunk: Chunk, theta: Tensor, along: Tensor) -> Tensor:  # noqa: ARG002
        """Return the derivative of the gradient unchanged."""
        return along


class Difference:
    """The engine: at least four evaluations of g for each chunk and product, in float64 for any precision of v.

    Attributes:
        wide: The mean loss with a model in float64.
        gap: The disagreement of the two steps for a vector of norm 1, summed over chunks since the last `take_gap`.
        smallest, largest: The smallest and largest step so far, relative to ‖θ‖; 0 before the first product.
        scale: s, shape (P,), if the products are used for diag(s) A diag(s): the disagreement is then that of this matrix.
    """

    keeps = False
    compiled = False
    scale: Tensor | None = None

    def __init__(self, objective: Objective, rule: Rule) -> None:
        """Make a copy of the model in float64.

        Raises:
            SettingsError: The device has no float64.
        """
        if objective.runtime.device.type == "mps":
            raise SettingsError("Differences need float64, but the mps device does not support it.", "Use --device cpu.")
        self._objective, self._rule = objective, rule
        self.wide = objective.widened(objective.few())
        self.gap = self.smallest = self.largest = 0.0

    @property
    def words(self) -> str:
        """The name of the engine in messages."""
        steps = f", steps {self.smallest:.0e} to {self.largest:.0e} of the weights' length" if self.largest else ""
        return f"central differences in float64{steps}"

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Differences:
        """Return the chunk at parameters given by name."""
        theta = self.wide.space.flatten(leaves).detach().double()
        return Differences(self, self.wide.converted(chunk), theta)

    def take_gap(self) -> float:
        """Return `gap`, and reset it to 0."""
        gap, self.gap = self.gap, 0.0
        return gap

    def _along(self, chunk: Chunk, theta: Tensor, vector: Tensor) -> Along:
        """Return Jv by the two neighbouring steps that agree best."""
        length = float(vector.norm())
        unit = (float(theta.norm()) or 1.0) / length
        best: Along | None = None
        larger = self._quotient(chunk, theta, vector, STEPS[0] * unit)
        for place in range(1, len(STEPS)):
            smaller = self._quotient(chunk, theta, vector, STEPS[place] * unit)
            pair = Along(larger, smaller, STEPS[place - 1])
            if best is None or pair.gap < best.gap or not math.isfinite(best.gap):
                best = pair
            if pair.gap <= _AGREEMENT * float(smaller.norm()):
                break
            larger = smaller
        assert best is not None
        return best

    def product(self, chunk: Chunk, theta: Tensor, vector: Tensor) -> Tensor:
        """Return the product of one chunk with a vector (P,), in float64, and add its uncertainty to `gap`."""
        length = float(vector.norm())
        if not length:
            return torch.zeros_like(vector)
        made, other = self.pair(chunk, theta, vector)
        off, along = made - other, vector
        if self.scale is not None:
            off, along = off * self.scale, vector / self.scale.masked_fill(self.scale == 0, 1)  # There the vector is 0 too.
        gap = float(off.norm()) / float(along.norm())
        self.gap += gap if math.isfinite(gap) else math.inf
        return made

    def pair(self, chunk: Chunk, theta: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product by each of the two steps that agree best, the larger one first."""
        quotients = self._along(chunk, theta, vector)
        step = quotients.step
        self.smallest, self.largest = min(self.smallest or step, step), max(self.largest, step)
        both = (quotients.value, quotients.other)
        first, second = (self._rule.finished(self.wide, chunk, theta, along) for along in both)
        return first, second

    def _quotient(self, chunk: Chunk, theta: Tensor, vector: Tensor, step: float) -> Tensor:
        ends = (self._rule.field(self.wide, chunk, theta + sign * step * vector).detach() for sign in (1, -1))
        return torch.sub(*ends).div_(2 * step)


class Along(NamedTuple):
    """Jv by two neighbouring steps.

    Attributes:
        value: By the larger step, which has less rounding.
        other: By the smaller step, of the same shape.
        step: The larger step, relative to ‖θ‖.
    """

    value: Tensor
    other: Tensor
    step: float

    @property
    def gap(self) -> float:
        """The norm of the difference of the two; infinity if it is NaN."""
        gap = float((self.value - self.other).norm())
        return gap if math.isfinite(gap) else math.inf


class Differences(NamedTuple):
    """One chunk at θ, ready for products."""

    engine: Difference
    chunk: Chunk
    theta: Tensor

    @property
    def slopes(self) -> Sequence[Tensor]:
        """Nothing is differentiated a second time."""
        return ()

    def product(self, parts: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:  # noqa: ARG002
        """Return the product with a vector in the shapes of the parameters."""
        space = self.engine.wide.space
        vector = space.flatten(part.detach().double() for part in parts)
        return list(space.split(self.engine.product(self.chunk, self.theta, vector)).values())

    def saved_bytes(self) -> int:
        """Return 0: nothing is stored."""
        return 0
