"""Which eigenvalues are looked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sharpcli.linalg.krylov import Matrix


@dataclass(frozen=True)
class Wanted:
    """Which eigenvalues are looked for.

    Attributes:
        count: K, how many of those that `which` names.
        which: "LA" largest algebraic, "SA" smallest algebraic, "LM" largest magnitude.
        bottom: How many of the smallest algebraic beside them.
    """

    count: int
    which: str = "LA"
    bottom: int = 0

    @property
    def total(self) -> int:
        """Number of eigenvalues wanted."""
        return self.count + self.bottom

    def select(self, values: Matrix) -> list[int]:
        """Return the places of the wanted ones among ascending values: best first, then the bottom ones, smallest last."""
        size = len(values)
        down = list(range(size - 1, -1, -1))
        order = {"LA": down, "SA": down[::-1], "LM": sorted(down, key=lambda place: -abs(values[place]))}[self.which]
        return order[: self.count] + (down[-self.bottom :] if self.bottom else [])

    def ranks(self, size: int) -> list[int]:
        """Return the index of each selected one of so many: 1 is the largest (LM: in magnitude), -1 the smallest."""
        count, bottom = min(self.count, size), min(self.bottom, size)
        first = range(-1, -count - 1, -1) if self.which == "SA" else range(1, count + 1)
        return [*first, *range(-bottom, 0)]

    def enlarged(self, extra: int) -> Wanted:
        """Return a wish for so many more, at the ends that are wanted."""
        below = extra // 2 if self.bottom else 0
        return Wanted(self.count + extra - below, self.which, self.bottom + below)

    def ends(self, positions: Iterable[int]) -> tuple[bool, bool]:
        """Return whether some positions are counted from the smallest eigenvalue, and from the largest."""
        first = {"LA": (False, True), "SA": (True, False), "LM": (True, True)}[self.which]
        sides = [first if position < self.count else (True, False) for position in positions]
        return any(low for low, _ in sides), any(high for _, high in sides)
