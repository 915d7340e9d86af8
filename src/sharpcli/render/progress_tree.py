"""The work of a command that is done and that remains: a tree of tasks, measured in one unit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_WINDOW = 30.0  # Seconds over which the speed is measured.
_PATIENCE = 0.5  # Seconds that a drawing waits for the lock of the tree.
_APART = 0.1  # Seconds between two samples of the speed.


@dataclass(eq=False)
class Piece:
    """One task, which may contain other tasks.

    Attributes:
        label: Name of the task.
        total: Number of units, exact or expected; None if it is not known.
        units: Name of the units; "" if the work is in inner tasks.
        done: Number of units that are done.
        scale: Work of one unit.
        planned: Inner tasks that have not started, by label, with their work.
        above: The outer task.
        within: The inner task that is running.
        spent: Work that this process has done here; `before`: work of earlier processes.
        size: Expected work at the start.
        expected: Whether the total is a guess.
        measured: Whether the scale was measured.
        has_parts: Whether inner tasks were planned.
        fields: Details that are shown.
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
            if self.total is not None and self.done > self.total:  # Some searches are repeated with higher precision.
                self.total, self.expected = self.done, True
            self.fields |= fields
            if self.units:
                self.spent += amount * self.scale
            elif self.done and not self.planned and self.spent:  # Other units are expected to take the same time.
                self.scale, self.measured = self.spent / self.done, True
            self.overview.moved()

    def expect(self, left: float) -> None:
        """Set the expected number of remaining units."""
        self.total, self.expected = self.done + max(left, 0.0), True

    def evaluated(self, **fields: object) -> None:
        """Record the result of an evaluation."""
        self.fields |= fields
        self.overview.evaluated()

    def left(self) -> float:
        """Return the remaining work."""
        inner = 0.0 if self.within is None else self.within.left()
        if self.planned or self.within is not None and self.total is None:
            return sum(list(self.planned.values())) + inner
        if self.total is None:
            return 0.0 if self.has_parts else self.size
        units = max(self.total - self.done, 0.0)
        if self.within is None:
            return units * self.scale
        # Before the first unit is done, the others are expected to take as long as it seems to take.
        scale = self.scale if self.measured else max(self.scale, self.within.gone() + inner)
        return max(units - 1, 0.0) * scale + inner

    def gone(self) -> float:
        """Return the work that this process has done."""
        return self.spent + (0.0 if self.within is None else self.within.gone())

    def earlier(self) -> float:
        """Return the work that earlier processes have done."""
        return self.before + (0.0 if self.within is None else self.within.earlier())


class Overview:
    """All work of a command.

    Attributes:
        on_evaluation: Called after each evaluation.
        lock: Held while the tree changes or is read, since the bar is drawn in another thread.
    """

    def __init__(self, on_evaluation: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Start without any task."""
        self._clock, self.on_evaluation = clock, on_evaluation
        self.lock = threading.RLock()
        self.began = self._last = clock()
        self.root = Piece(self, "preparing", None, "", 0, 1.0, {}, None, 0.0)
        self._samples: deque[tuple[float, float]] = deque()
        self._furthest = 0.0

    def start(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> Piece:
        """Start a task inside the innermost running task."""
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
        if above.units:  # The units of the outer task include this task.
            piece.above = None
            return piece
        above.within = piece
        self.root.label = "finishing"  # Shown after this task has ended.
        if not self.root.gone():
            self._samples.clear()
            self._samples.append((self._clock(), 0.0))
        return piece

    @staticmethod
    def _planned(above: Piece, label: str) -> float | None:
        """Return the planned work of a task, and remove it and the earlier tasks from the plan."""
        if label not in above.planned:
            return None
        while True:
            first = next(iter(above.planned))
            work = above.planned.pop(first)
            if first == label:
                return work

    def finish(self, piece: Piece) -> None:
        """End a task and its inner tasks."""
        above = piece.above
        with self.lock:
            if above is not None and above.within is piece:
                above.spent += piece.gone()
                above.before += piece.earlier()
                if not above.units and not above.measured:  # The first of several equal tasks, which is counted next.
                    above.scale = max(above.scale, above.spent)
                above.within = None

    def innermost(self) -> Piece:
        """Return the innermost running task."""
        piece = self.root
        while piece.within is not None:
            piece = piece.within
        return piece

    def path(self) -> list[Piece]:
        """Return the running tasks, from the outermost to the innermost; empty before the first."""
        running, piece = [], self.root.within
        while piece is not None:
            running.append(piece)
            piece = piece.within
        return running

    def moved(self) -> None:
        """Record the time and the work that is done."""
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= _APART:
            self._samples.append((now, self.root.gone()))
            while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW:
                self._samples.popleft()
        self._last = now

    def evaluated(self) -> None:
        """Report an evaluation."""
        self.on_evaluation()

    def fraction(self) -> float:
        """Return the fraction of the work that is done. It never decreases, also if more work turns out to be needed."""
        if self.lock.acquire(timeout=_PATIENCE):  # Ctrl-C during a change may leave it locked.
            try:
                done = self.root.gone() + self.root.earlier()
                total = done + self.root.left()
                if self.root.within is not None and total:
                    self._furthest = max(self._furthest, done / total)
            finally:
                self.lock.release()
        return min(self._furthest, 1.0)

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self.began

    def seconds_left(self) -> float | None:
        """Return the expected remaining time in seconds; None before the speed is known."""
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
