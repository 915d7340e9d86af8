"""How a figure looks: for a paper, for slides or for a screen, its size and its resolution."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sharpcli.errors import SettingsError, closest

STYLES = ("screen", "paper", "talk")
_SMALLEST, _LARGEST = 1.0, 60.0  # Inches of a side.
_DPI = (30, 1200)
_MOST_PIXELS = 200e6  # Of a picture; one pixel takes four bytes.


@dataclass(frozen=True)
class Look:
    """How a figure looks.

    Attributes:
        style: screen, paper (small text and thin lines, two panels in the width of a page) or talk (large text, thick lines).
        size: Width and height in inches; None for the size that the contents need.
        dpi: Dots per inch of a png; pdf and svg have no dots.
    """

    style: str = "screen"
    size: tuple[float, float] | None = None
    dpi: int = 150


def look_of(style: str | None = None, size: str | None = None, dpi: int | None = None) -> Look:
    """Return a look from texts, such as those of the command line.

    Args:
        style: One of `STYLES`.
        size: Width and height in inches, such as "7x3.5".
        dpi: Dots per inch of a png.

    Raises:
        SettingsError: A value is not valid.
    """
    if style is not None and style not in STYLES:
        raise SettingsError(f"--style cannot be '{style}'.", closest(style, STYLES))
    sides = None if size is None else _sides(size)
    if dpi is not None and not _DPI[0] <= dpi <= _DPI[1]:
        raise SettingsError(f"--dpi is {dpi}, but must be from {_DPI[0]} to {_DPI[1]}.", "Use 150 for screens, 300 for print.")
    look = Look(style or Look.style, sides, dpi or Look.dpi)
    if sides and math.prod(sides) * look.dpi**2 > _MOST_PIXELS:
        raise SettingsError(f"--size {size} at {look.dpi} dpi has too many pixels.", "Lower --dpi or --size, or write a pdf.")
    return look


def _sides(size: str) -> tuple[float, float]:
    number = r"(\d*\.?\d+)"
    found = re.fullmatch(rf"{number}\s*[x×]\s*{number}", size.strip())
    sides = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if not all(_SMALLEST <= side <= _LARGEST for side in sides):
        raise SettingsError(
            f"--size '{size}' is not a width and a height from {_SMALLEST:g} to {_LARGEST:g} inches.", "Write it like 7x3.5."
        )
    return sides
