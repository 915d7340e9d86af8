"""The eigenvalues that a search computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sharpcli.linalg.krylov import Matrix


@dataclass(frozen=True)
class Wanted:
    """The eigenvalues that a search computes.

    Attributes:
        count: K, the number of eigenvalues at the end that `which` names.
        which: "LA" largest algebraic, "SA" smallest algebraic, "LM" largest magnitude.
        bottom: Number of smallest algebraic eigenvalues in addition.
    """

    count: int
    which: str = "LA"
    bottom: int = 0

    @property
    def total(self) -> int:
        """Number of eigenvalues wanted."""
        return self.count + self.bottom

    def select(self, values: Matrix) -> list[int]:
        """Return the positions of the selected eigenvalues in ascending values: best first, then `bottom`, smallest last."""
        size = len(values)
        down = list(range(size - 1, -1, -1))
        order = {"LA": down, "SA": down[::-1], "LM": sorted(down, key=lambda place: -abs(values[place]))}[self.which]
        return order[: self.count] + (down[-self.bottom :] if self.bottom else [])

    def ranks(self, size: int) -> list[int]:
        """Return the index of each selected eigenvalue out of `size`: 1 is the largest (LM: in magnitude), -1 the smallest."""
        count, bottom = min(self.count, size), min(self.bottom, size)
        first = range(-1, -count - 1, -1) if self.which == "SA" else range(1, count + 1)
        return [*first, *range(-bottom, 0)]

    def enlarged(self, extra: int) -> Wanted:
        """Return a selection with `extra` more eigenvalues, at the same ends."""
        below = extra // 2 if self.bottom else 0
        return Wanted(self.count + extra - below, self.which, self.bottom + below)

    def ends(self, positions: Iterable[int]) -> tuple[bool, bool]:
        """Return whether any of the positions counts from the smallest eigenvalue, and whether any counts from the largest."""
        first = {"LA": (False, True), "SA": (True, False), "LM": (True, True)}[self.which]
        sides = [first if position < self.count else (True, False) for position in positions]
        return any(low for low, _ in sides), any(high for _, high in sides)
