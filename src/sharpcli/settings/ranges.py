"""Ranges of coordinates, written as LO:HI."""

from __future__ import annotations

import math

from sharpcli.errors import SettingsError


def bounds_of(text: str) -> tuple[float, float]:
    """Return the ends of a range LO:HI.

    Raises:
        SettingsError: The text is not LO:HI with LO < HI, both finite.
    """
    low, _, high = text.partition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        raise SettingsError(f"--range '{text}' is not LO:HI.", "Write it as --range -0.5:1.5.") from None
    if not all(map(math.isfinite, bounds)) or bounds[0] >= bounds[1]:
        raise SettingsError(
            f"--range {text}: the first number must be less than the second.",
            f"Swap the numbers: --range {high}:{low}." if bounds[0] > bounds[1] else "Write it as --range -0.5:1.5.",
        )
    return bounds
