"""Products by central differences in float64: for models whose second derivative torch does not have, or has wrong.

(g(θ + tv) - g(θ - tv)) / 2t is Jv up to t², where nothing between the two points has a kink, and up to the rounding of g
divided by t. Each kink between them, such as of a ReLU, adds its jump divided by 2t. So t must be small against the
distance to the next kink and large against rounding. No step is right for all data. It is chosen for each chunk of
samples by itself: steps fall by a factor of ten until two of them agree. How far those two disagree is what the product
is uncertain by, and it is added up for the certificate. A loss that is a staircase fools them, since the steps of a rounding
are larger than theirs; `soundness` refuses it.
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

STEPS = tuple(10.0**power for power in range(-6, -12, -1))  # Of the length of θ.
_AGREEMENT = 1e-8  # Relative difference of two steps at which no smaller one is tried.


class Rule(Protocol):
    """What is differenced, and how a product is made of it."""

    def field(self, objective: Objective, chunk: Chunk, theta: Tensor) -> Tensor:
        """Return g(θ), of any shape."""

    def finished(self, objective: Objective, chunk: Chunk, theta: Tensor, along: Tensor) -> Tensor:
        """Return the product, shape (P,), of Jv, which has the shape of g."""


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
        """Return the derivative of the gradient as it is."""
        return along


class Difference:
    """The engine: at least four evaluations of g for each chunk and product, in float64 whatever the precision of v.

    Attributes:
        wide: The mean loss with a model in float64.
        gap: Sum over chunks of how far the two steps disagreed, for a vector of length 1, since `take_gap` was called.
        smallest, largest: Steps that were used so far, in parts of ‖θ‖; 0 before the first product.
    """

    keeps = False
    compiled = False

    def __init__(self, objective: Objective, rule: Rule) -> None:
        """Make a copy of the model in float64.

        Raises:
            SettingsError: The device has no float64.
        """
        if objective.runtime.device.type == "mps":
            raise SettingsError("The mps device has no float64, which differences need.", "Use --device cpu.")
        self._objective, self._rule = objective, rule
        self.wide = objective.widened(objective.few())
        self.gap = self.smallest = self.largest = 0.0

    @property
    def words(self) -> str:
        """Its name, for people."""
        steps = f", steps {self.smallest:.0e} to {self.largest:.0e} of the weights' length" if self.largest else ""
        return f"central differences in float64{steps}"

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Differences:
        """Return the chunk at parameters given by name."""
        theta = self.wide.space.flatten(leaves).detach().double()
        return Differences(self, self.wide.converted(chunk), theta)

    def take_gap(self) -> float:
        """Return `gap`, and set it back to 0."""
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
        """Return the product of one chunk with a vector (P,), in float64, and add up what it is uncertain by."""
        length = float(vector.norm())
        if not length:
            return torch.zeros_like(vector)
        made, other = self.pair(chunk, theta, vector)
        gap = float((made - other).norm()) / length
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
        value: By the larger one, which has less rounding.
        other: By the smaller one, of the same shape.
        step: The larger one, in parts of ‖θ‖.
    """

    value: Tensor
    other: Tensor
    step: float

    @property
    def gap(self) -> float:
        """How far the two disagree; infinite where it is no number."""
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
        """Return 0: nothing is kept."""
        return 0
