"""A number from random probes, with its standard error and its 95 % interval. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number from random probes and its 95 % interval.

    Attributes:
        value: The estimate, in the unit of the estimated number.
        standard_error: Estimated standard deviation of the value; 0 if the value is exact.
        lower: Lower end of the interval. The interval can be asymmetric; it allows for noise and rounding of the products.
        upper: Upper end of the interval.
        samples: Number of random probes; 0 if the value is computed without them.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    samples: int

    def times(self, factor: float) -> Estimate:
        """Return the estimate of the number times a factor of at least 0."""
        return replace(
            self,
            value=factor * self.value,
            standard_error=factor * self.standard_error,
            lower=factor * self.lower,
            upper=factor * self.upper,
        )
