"""A number from random probes, with its standard error and its 95 % interval. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number from random probes and its 95 % interval.

    Attributes:
        value: The estimate, in the unit of what is estimated.
        standard_error: Estimated standard deviation of the value; 0 if the value is exact.
        lower: Lower end of the interval, which need not be as far from the value as the upper one; what
            noise and rounding of the products may have changed is allowed for. Never below what is known exactly.
        upper: Upper end, likewise.
        samples: Random probes behind the value; 0 if no chance is in it.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    samples: int
