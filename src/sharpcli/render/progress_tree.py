"""How much of a command's work is done and how much is left: a tree of tasks, measured in one unit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_WINDOW = 30.0  # Seconds by which the speed is measured.
_PATIENCE = 0.5  # Seconds that a drawing waits for the tree.
_APART = 0.1  # Seconds between two measurements of it.


@dataclass(eq=False)
class Piece:
    """One task, within another one.

    Attributes:
        label: What it is.
        total: Units it has, or is likely to have; None if that is not known.
        units: What is counted; "" where the work is in the tasks within.
        done: Units that are done.
        scale: Work of a unit.
        planned: Tasks to come within, by label, with their work.
        above: The task that it is a part of.
        within: The task under way within.
        spent: Work that was done here in this sitting; `before` in sittings before.
        size: Work that was thought to be here at the start.
        expected: Whether the total is a guess.
        measured: Whether the scale is that of what was done.
        has_parts: Whether tasks within were planned.
        fields: What else is shown.
    """

    overview: Overview
    label: str
    total: float | None
    units: str
    done: float
    scale: float
    planned: dict[str, float]
    above: Piece | None
    size: float
    within: Piece | None = None
    spent: float = 0.0
    before: float = 0.0
    expected: bool = False
    measured: bool = False
    has_parts: bool = False
    fields: dict[str, object] = field(default_factory=dict)

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Count units that are done."""
        with self.overview.lock:
            self.done += amount
            if self.total is not None and self.done > self.total:  # Some searches are made again, more precisely.
                self.total, self.expected = self.done, True
            self.fields |= fields
            if self.units:
                self.spent += amount * self.scale
            elif self.done and not self.planned and self.spent:  # What one piece took, the others are likely to take.
                self.scale, self.measured = self.spent / self.done, True
            self.overview.moved()

    def expect(self, left: float) -> None:
        """Set how many units are likely to be left."""
        self.total, self.expected = self.done + max(left, 0.0), True

    def evaluated(self, **fields: object) -> None:
        """Take note of what was evaluated."""
        self.fields |= fields
        self.overview.evaluated()

    def left(self) -> float:
        """Return the work that is left."""
        inner = 0.0 if self.within is None else self.within.left()
        if self.planned or self.within is not None and self.total is None:
            return sum(list(self.planned.values())) + inner
        if self.total is None:
            return 0.0 if self.has_parts else self.size
        units = max(self.total - self.done, 0.0)
        if self.within is None:
            return units * self.scale
        # Before the first of a row is done, the others are likely to take what that seems to take.
        scale = self.scale if self.measured else max(self.scale, self.within.gone() + inner)
        return max(units - 1, 0.0) * scale + inner

    def gone(self) -> float:
        """Return the work that was done in this sitting."""
        return self.spent + (0.0 if self.within is None else self.within.gone())

    def earlier(self) -> float:
        """Return the work that was done in sittings before."""
        return self.before + (0.0 if self.within is None else self.within.earlier())


class Overview:
    """All the work of a command.

    Attributes:
        on_evaluation: Called when something was evaluated.
        lock: Held while the tree changes or is read: a bar is drawn in a thread of its own.
    """

    def __init__(self, on_evaluation: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin: nothing is known yet."""
        self._clock, self.on_evaluation = clock, on_evaluation
        self.lock = threading.RLock()
        self.began = self._last = clock()
        self.root = Piece(self, "preparing", None, "", 0, 1.0, {}, None, 0.0)
        self._samples: deque[tuple[float, float]] = deque()
        self._furthest = 0.0

    def start(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> Piece:
        """Begin a task within the innermost one that is under way."""
        with self.lock:
            return self._started(label, total, units=units, done=done, parts=parts)

    def _started(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> Piece:
        above = self.innermost()
        size, scale = self._planned(above, label), 1.0
        if size is None:
            size = sum(parts.values()) if parts else float(total or 0) if units else 0.0
        elif total:
            scale = size / total
        piece = Piece(self, label, total, units, done, scale, dict(parts), above, size, has_parts=bool(parts))
        piece.before = done * scale if units else 0.0
        if above.units:  # What is counted there includes this.
            piece.above = None
            return piece
        above.within = piece
        self.root.label = "finishing"  # What is shown when it has ended.
        if not self.root.gone():
            self._samples.clear()
            self._samples.append((self._clock(), 0.0))
        return piece

    @staticmethod
    def _planned(above: Piece, label: str) -> float | None:
        """Return the work that was planned for a task, and forget it and what was to come before."""
        if label not in above.planned:
            return None
        while True:
            first = next(iter(above.planned))
            work = above.planned.pop(first)
            if first == label:
                return work

    def finish(self, piece: Piece) -> None:
        """End a task, with all that is still within it."""
        above = piece.above
        with self.lock:
            if above is not None and above.within is piece:
                above.spent += piece.gone()
                above.before += piece.earlier()
                if not above.units and not above.measured:  # A row of pieces, the first of which is about to be counted.
                    above.scale = max(above.scale, above.spent)
                above.within = None

    def innermost(self) -> Piece:
        """Return the task under way that holds no other."""
        piece = self.root
        while piece.within is not None:
            piece = piece.within
        return piece

    def path(self) -> list[Piece]:
        """Return the tasks under way, from the outermost to the innermost; empty before the first."""
        found, piece = [], self.root.within
        while piece is not None:
            found.append(piece)
            piece = piece.within
        return found

    def moved(self) -> None:
        """Take note of when how much was done."""
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= _APART:
            self._samples.append((now, self.root.gone()))
            while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW:
                self._samples.popleft()
        self._last = now

    def evaluated(self) -> None:
        """Take note that something was evaluated."""
        self.on_evaluation()

    def fraction(self) -> float:
        """Return the part of all work that is done; it never falls, though more work may be found to be needed."""
        if self.lock.acquire(timeout=_PATIENCE):  # Ctrl-C in the midst of a change may leave it held.
            try:
                done = self.root.gone() + self.root.earlier()
                whole = done + self.root.left()
                if self.root.within is not None and whole:
                    self._furthest = max(self._furthest, done / whole)
            finally:
                self.lock.release()
        return min(self._furthest, 1.0)

    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return self._clock() - self.began

    def seconds_left(self) -> float | None:
        """Return how long the rest is likely to take; None before anything is known of the speed."""
        if not self.lock.acquire(timeout=_PATIENCE):
            return None
        try:
            return self._seconds_left()
        finally:
            self.lock.release()

    def _seconds_left(self) -> float | None:
        if not self._samples or self.root.within is None:
            return None
        (then, before), now = self._samples[0], self._last
        gone = self.root.gone() - before
        if gone <= 0 or now <= then:
            return None
        return max(self.root.left() * (now - then) / gone - (self._clock() - now), 0.0)
