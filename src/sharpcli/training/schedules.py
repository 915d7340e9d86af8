"""Learning rates as a fraction of the peak; each depends on the update number only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

# Izmailov et al. 2018. Averaging begins after three quarters of the run. The rate is constant for half of this time, and
# then falls linearly until nine tenths of this time.
_SWA_HIGH, _SWA_LOW = 0.375, 0.675


@dataclass(frozen=True)
class Schedule:
    """Values that all schedules use.

    Attributes:
        length: Updates from the end of warm-up to the end of the schedule.
        final: Final rate, as a fraction of the peak.
        drops: Pairs: an update, counted from the end of warm-up, and the fraction of the peak from that update on.
    """

    length: int
    final: float
    drops: tuple[tuple[float, float], ...]

    def constant(self, _update: int) -> float:
        """Stay at the peak."""
        return 1.0

    def cosine(self, update: int) -> float:
        """Fall along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * self._done(update)))

    def linear(self, update: int) -> float:
        """Fall on a straight line."""
        return 1 - (1 - self.final) * self._done(update)

    def step(self, update: int) -> float:
        """Fall at the given updates; stay at the peak before the first."""
        return [1.0, *(fraction for start, fraction in self.drops if update >= start)][-1]

    def swa(self, update: int) -> float:
        """Stay, fall on a straight line, and stay at the end value (Izmailov et al. 2018, section 3.2)."""
        falling = (self._done(update) - _SWA_HIGH) / (_SWA_LOW - _SWA_HIGH)
        return 1 - (1 - self.final) * min(max(falling, 0.0), 1.0)

    def _done(self, update: int) -> float:
        return min(update / self.length, 1.0)


SCHEDULES: dict[str, Callable[[Schedule, int], float]] = {
    "constant": Schedule.constant,
    "cosine": Schedule.cosine,
    "linear": Schedule.linear,
    "step": Schedule.step,
    "swa": Schedule.swa,
}
