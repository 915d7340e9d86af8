"""The index of a listed eigenvalue: an interval for each index, and the possible indices of each interval.

A residual shows that some eigenvalue is near a value. To find its index, eigenvalues above a point are
counted: their minimum number (Cauchy, from the basis only) and their maximum number (inertia, from the basis
and a bound on its complement; see `complement`). If both counts agree on both sides of the residual's
interval, the index of the eigenvalue in it is known. If not, the counts give the possible indices.

References: Parlett, The Symmetric Eigenvalue Problem, theorems 10.1.1 (Cauchy), 3.3.1 (inertia) and 4.5.1 (residual).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy

from sharpcli.linalg.complement import count_above
from sharpcli.linalg.krylov import Frame, Matrix
from sharpcli.linalg.wanted import Wanted

_EXACT = 1e-12  # Relative accuracy of the computed bounds; they are rounded outwards by as much.

Interval = tuple[float, float]


@dataclass(frozen=True)
class Rank:
    """The known facts about the index of one listed value.

    Attributes:
        index: Its listed index: 1 is the largest, -1 the smallest.
        interval: Contains the eigenvalue of that index; infinite if there is no bound.
        first, last: Range of the indices of all eigenvalues within the residual's interval; `last`, the index towards
            the middle of the spectrum, is None if there is no bound.
    """

    index: int
    interval: Interval
    first: int
    last: int | None

    @property
    def is_counted(self) -> bool:
        """Whether the residual's interval certainly contains the eigenvalue of this index."""
        return self.first == self.last == self.index

    def shown(self, value: float, radius: float, limit: float) -> Interval | None:
        """Return an interval around a value that contains the eigenvalue of this index, or None if it would be too wide.

        It is the residual's interval if that certainly contains the eigenvalue, else the hull of both intervals.

        Args:
            value: The listed value.
            radius: Half-width of the residual's interval.
            limit: Largest extent of the interval to each side.
        """
        if self.is_counted:
            return value - radius, value + radius
        low, high = min(value - radius, self.interval[0]), max(value + radius, self.interval[1])
        return (low, high) if max(value - low, high - value) <= limit else None


@dataclass(frozen=True, eq=False)
class Counts:
    """Bounds on the number of eigenvalues above a point; for the negated matrix, below a point.

    Attributes:
        values: Ritz values (m,), ascending.
        coupling: C (q, m) in the basis of their vectors.
        most: Upper bound on the eigenvalues within the complement of the basis.
        cap: Upper bound on all eigenvalues.
        slack: Largest error of the measured spectrum, from noise, rounding and loss of orthogonality.
    """

    values: Matrix
    coupling: Matrix
    most: float
    cap: float
    slack: float

    @staticmethod
    def of(frame: Frame, complement: Interval, everything: Interval, slack: float) -> tuple[Counts, Counts]:
        """Return the counts from the top and from the bottom; see `ranks`."""
        values, _, weights = frame.ritz
        coupling = frame.coupling @ weights
        return (
            Counts(values, coupling, complement[1], everything[1], slack),
            Counts(-values[::-1], coupling[:, ::-1], -complement[0], -everything[0], slack),
        )

    @property
    def is_bounded(self) -> bool:
        """Whether there is any bound on the spectrum outside the basis."""
        return math.isfinite(min(self.most, self.cap)) or self.most < 0

    def at_least(self, point: float) -> int:
        """Return the minimum number of eigenvalues above a point."""
        return int((self.values > point + self.slack).sum())

    def at_most(self, point: float) -> float:
        """Return the maximum number of eigenvalues at or above a point; infinite if it is not above the complement's bound."""
        if point > self.cap:
            return 0
        point -= self.slack
        if point <= self.most:
            return math.inf
        return count_above(point, self.values, self.coupling, self.most)

    def reach(self, index: int) -> float:
        """Return an upper bound on the eigenvalue of an index (1 for the largest)."""
        return _solved(self.at_most, index, float(self.values[-index]) + self.slack, [self])

    def ranked(self, index: int, value: float, radius: float) -> tuple[Interval, int, float]:
        """Return the interval of an index (1 for the largest), and the first and last possible index within value ± radius."""
        first, last = self.at_least(value + radius) + 1, self.at_most(value - radius)
        low = min(float(self.values[-index]) - self.slack, value)
        high = max(self.reach(index), value)
        return _narrowed((low, high), (value - radius, value + radius), first == last == index), first, last


def ranks(
    frame: Frame,
    wanted: Wanted,
    radii: Sequence[float],
    complement: Interval,
    slack: float,
    *,
    everything: Interval = (-math.inf, math.inf),
    values: Sequence[float] | None = None,
) -> list[Rank]:
    """Return the known facts about the index of each wanted Ritz value.

    Args:
        frame: The decomposition.
        wanted: Which eigenvalues are listed.
        radii: For each, the largest distance to some eigenvalue (K,), noise and rounding included.
        complement: Lower and upper bound on the eigenvalues within the complement of the basis.
        slack: Largest error of the measured spectrum, from noise, rounding and loss of orthogonality.
        everything: Lower and upper bound on all eigenvalues.
        values: The listed values (K,), if they are more accurate than the Ritz values.
    """
    ritz, _, _ = frame.ritz
    places = wanted.select(ritz)
    top, bottom = Counts.of(frame, complement, everything, slack)
    all_ranks = []
    for position, (place, index, radius) in enumerate(zip(places, wanted.ranks(len(ritz)), radii, strict=True)):
        value = float(ritz[place]) if values is None else values[position]
        if wanted.which == "LM" and position < min(wanted.count, len(ritz)):
            all_ranks.append(_by_magnitude(top, bottom, index, value, radius))
        elif index > 0:
            interval, first, last = top.ranked(index, value, radius)
            all_ranks.append(Rank(index, interval, first, _index(last)))
        else:
            (low, high), first, last = bottom.ranked(-index, -value, radius)
            below = _index(last)
            all_ranks.append(Rank(index, (-high, -low), -first, None if below is None else -below))
    return all_ranks


def _by_magnitude(top: Counts, bottom: Counts, index: int, value: float, radius: float) -> Rank:
    """Return the facts about an index that counts by magnitude (1 is the largest in magnitude).

    The eigenvalue of an index may then have either sign. Its interval is given only if no eigenvalue of the other sign
    lies within the possible magnitudes.
    """
    size, own, other = abs(value), *((top, bottom) if value >= 0 else (bottom, top))
    first = own.at_least(size + radius) + other.at_least(size + radius) + 1

    def at_most(point: float) -> float:
        return own.at_most(point) + other.at_most(point)

    last = at_most(size - radius) if size > radius else math.inf
    known = numpy.sort(numpy.abs(own.values))
    low, high = (
        min(float(known[-index]) - own.slack, size),
        max(_solved(at_most, index, float(known[-index]) + own.slack, [own, other]), size),
    )
    sure = first == last == index
    low, high = _narrowed((low, high), (size - radius, size + radius), sure)
    if not sure and not (low > 0 and other.at_most(low) == other.at_least(high)):
        low, high = -math.inf, math.inf
    return Rank(index, (low, high) if value >= 0 else (-high, -low), first, _index(last))


def _narrowed(interval: Interval, other: Interval, both: bool) -> Interval:
    """Return an interval, or its intersection with another one if both hold."""
    return (max(interval[0], other[0]), min(interval[1], other[1])) if both else interval


def _index(count: float) -> int | None:
    return int(count) if math.isfinite(count) else None


def _solved(at_most: Callable[[float], float], index: int, start: float, sides: Sequence[Counts]) -> float:
    """Return the smallest point above `start` such that fewer than `index` eigenvalues are at or above it."""
    if not all(side.is_bounded for side in sides):
        return math.inf
    sizes = [start, *(number for side in sides for number in (side.most, side.cap, side.slack))]
    width = max(float(numpy.linalg.norm(sides[0].coupling)), *(abs(size) for size in sizes if math.isfinite(size)))
    low = start + _EXACT * width
    if not width or at_most(low) < index:
        return low
    step = _EXACT * width
    while at_most(low + step) >= index:
        low, step = low + step, 4 * step
        if not math.isfinite(low):
            return math.inf
    while step > _EXACT * width:  # The count decreases with the point, so bisection finds where it falls below the index.
        step /= 2
        low += step * (at_most(low + step) >= index)
    return low + step
