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
    """One running average, kept in float64 (float32 where the device has no other).

    "tail:s" is the mean of the weights after every update from a share s of the run on, "swa:s" of those at the ends
    of epochs; "ema:d" starts at the initial weights and is d times itself plus 1 - d times the weights at each update.

    Attributes:
        kind: "tail", "ema" or "swa".
        decay: d of "ema".
        start: Updates after which "tail" and "swa" begin.
        every: Updates from one of their iterates to the next.
        count: How many have been averaged.
        means: The average, tensor by tensor; [] before there is one.
    """

    kind: str
    decay: float
    start: int
    every: int
    count: int = 0
    means: list[Tensor] = field(default_factory=list)

    def see(self, updates: int, parameters: Sequence[nn.Parameter]) -> None:
        """Take in the weights as they are after so many updates; 0 updates are the initial weights."""
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
        """Return what is needed to go on."""
        return {"kind": self.kind, "count": self.count, "means": self.means}

    def restore(self, kind: str, count: int, means: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
        """Go back to what `state` returned.

        Raises:
            ContentError: It is that of another average.
        """
        shapes = [part.shape for part in means]
        if kind != self.kind or shapes not in ([], [part.shape for part in parameters]) or (count > 0) != (len(shapes) > 0):
            raise ContentError(f"'averages' holds no average {self.kind} of these weights")
        self.count = count
        self.means = [part.to(parameters[0].device, _wide(parameters[0]).dtype) for part in means]


def _wide(part: Tensor) -> Tensor:
    """Return a tensor in the type that averages are kept in."""
    return part if part.device.type == "mps" else part.double()


def averages_of(texts: Sequence[str], *, updates: int, updates_per_epoch: int) -> list[Average]:
    """Return the averages that "tail:0.5" and its like ask for, in a run of so many updates."""
    averages = []
    for kind, number in map(average_of, texts):
        start, every = int(number * updates), updates_per_epoch if kind == "swa" else 1
        averages.append(Average(kind, number, 0 if kind == "ema" else start, every))
    return averages
