"""Progress without printing: work reports to whoever listens, and to nobody if nobody does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

_Thing = TypeVar("_Thing")
_LEAST_SEEN = 3  # Points from which a fall is told.
_FEW = 6  # Points up to which all of them count.


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Report that `amount` more units are done; `fields` are shown beside them, numbers as numbers."""

    def expect(self, left: float) -> None:
        """Report that so many units are likely to be left, where that is only known from how the work converges."""

    def evaluated(self, **fields: object) -> None:
        """Report that something was evaluated, which is worth a line where there is no terminal."""


class Listener(Protocol):
    """Shows tasks and warnings to a person."""

    def start(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> Task:
        """Show a new task within those that are under way; see `task`."""

    def finish(self, task: Task) -> None:
        """Stop showing a task."""

    def warn(self, message: str) -> None:
        """Show one sentence that the user should read."""

    def note(self, message: str) -> None:
        """Show one sentence to a user who wants to know more."""

    def say(self, message: str) -> None:
        """Show one sentence about the work that begins."""


class _Silent:
    def advance(self, amount: float = 1, **fields: object) -> None:
        pass

    def expect(self, left: float) -> None:
        pass

    def evaluated(self, **fields: object) -> None:
        pass


_gathered: ContextVar[tuple[list[str], ...]] = ContextVar("sharpcli_warnings", default=())
_listener: ContextVar[Listener | None] = ContextVar("sharpcli_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of all work inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def task(
    label: str, total: float | None = None, *, units: str = "", done: float = 0, parts: Mapping[str, float] | None = None
) -> Iterator[Task]:
    """Announce a piece of work; call `advance` on what is yielded.

    Args:
        label: What it is, in a word or two.
        total: How many units it has; None: not known.
        units: What is counted, such as "products". Without it the work is a row of pieces, each with tasks of its own,
            and is measured by those.
        done: How many units were done before, in a sitting that was interrupted.
        parts: The tasks that it will consist of, by label and in order, each with its work; one unit of work is about a
            Hessian-vector product, but in a row of trainings a sample.
    """
    listener = _listener.get()
    if listener is None:
        yield _Silent()
        return
    shown = listener.start(label, total, units=units, done=done, parts=parts or {})
    try:
        yield shown
    finally:
        listener.finish(shown)


def each(label: str, things: Sequence[_Thing]) -> Iterator[_Thing]:
    """Go through things one by one, and show which is worked on."""
    with task(label, total=len(things)) as shown:
        for thing in things:
            yield thing
            shown.advance(1)


def left_of_fall(history: Sequence[Sequence[float]]) -> float | None:
    """Return how many more steps a number takes to fall to 0, if it goes on falling as it did in its last half.

    Args:
        history: (steps, number) in order, such as how many powers of e a residual is above what is allowed.

    Returns:
        None where it does not fall, or too little is known.
    """
    late = history[len(history) // 2 :] if len(history) > _FEW else history
    if len(late) < _LEAST_SEEN:
        return None
    middle, mean = (sum(point[axis] for point in late) / len(late) for axis in (0, 1))
    spread = sum((steps - middle) ** 2 for steps, _ in late)
    slope = sum((steps - middle) * (number - mean) for steps, number in late) / spread if spread else 0.0
    return max(late[-1][1], 0.0) / -slope if slope < 0 else None


@contextmanager
def gathering() -> Iterator[list[str]]:
    """Yield a list that every warning given inside the block is added to, beside being shown."""
    messages: list[str] = []
    token = _gathered.set((*_gathered.get(), messages))
    try:
        yield messages
    finally:
        _gathered.reset(token)


def warn(message: str) -> None:
    """Tell the listener one sentence that the user should read; the same sentence only once in a block of gathering."""
    known = _gathered.get()
    if known and message in known[0]:
        return
    for messages in known:
        messages.append(message)
    listener = _listener.get()
    if listener is not None:
        listener.warn(message)


def note(message: str) -> None:
    """Tell the listener one sentence for a user who wants to know more."""
    listener = _listener.get()
    if listener is not None:
        listener.note(message)


def say(message: str) -> None:
    """Tell the listener one sentence about the work that begins."""
    listener = _listener.get()
    if listener is not None:
        listener.say(message)
