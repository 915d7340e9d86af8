"""Averages of the weights: over the tail of a run, exponential, or of the ends of epochs (SWA).

Reference: Nitanda et al., arXiv 2302.09376 (tail); Polyak and Juditsky 1992; Izmailov et al., UAI 2018 (SWA), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli.files import ContentError
from sharpcli.settings.train import average_of


@dataclass(eq=False)
class Average:
    """One running average, stored in float64 (in float32 on devices without float64).

    "tail:s" is the mean of the weights after every update, beginning at the fraction s of the run; "swa:s" is the same
    over the ends of epochs. "ema:d" starts at the initial weights; each update replaces it by d times the average plus
    1 - d times the weights.

    Attributes:
        kind: "tail", "ema" or "swa".
        decay: d of "ema".
        start: Number of updates after which "tail" and "swa" begin.
        every: Number of updates between two of their iterates.
        count: Number of averaged iterates.
        means: The average as a list of tensors; [] before the first iterate.
    """

    kind: str
    decay: float
    start: int
    every: int
    count: int = 0
    means: list[Tensor] = field(default_factory=list)

    def see(self, updates: int, parameters: Sequence[nn.Parameter]) -> None:
        """Add the present weights, after a number of updates; 0 updates means the initial weights."""
        if self.kind == "ema":
            weight = 1.0 if not self.means else 1 - self.decay
        elif updates <= self.start or updates % self.every:
            return
        else:
            weight = 1 / (self.count + 1)
        self.count += 1
        now = [parameter.detach() for parameter in parameters]
        if not self.means:
            self.means = [_wide(part).clone() for part in now]
            return
        torch._foreach_lerp_(self.means, [part.to(self.means[0].dtype) for part in now], weight)

    def state(self) -> dict[str, Any]:
        """Return the state that is needed to continue."""
        return {"kind": self.kind, "count": self.count, "means": self.means}

    def restore(self, kind: str, count: int, means: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
        """Restore a state that `state` returned.

        Raises:
            ContentError: The state belongs to another average.
        """
        shapes = [part.shape for part in means]
        if kind != self.kind or shapes not in ([], [part.shape for part in parameters]) or (count > 0) != (len(shapes) > 0):
            raise ContentError(f"'averages' holds no average {self.kind} of these weights")
        self.count = count
        self.means = [part.to(parameters[0].device, _wide(parameters[0]).dtype) for part in means]


def _wide(part: Tensor) -> Tensor:
    """Return a tensor in the type in which averages are stored."""
    return part if part.device.type == "mps" else part.double()


def averages_of(texts: Sequence[str], *, updates: int, updates_per_epoch: int) -> list[Average]:
    """Return the averages that texts such as "tail:0.5" request, in a run with this number of updates."""
    averages = []
    for kind, number in map(average_of, texts):
        start, every = int(number * updates), updates_per_epoch if kind == "swa" else 1
        averages.append(Average(kind, number, 0 if kind == "ema" else start, every))
    return averages
