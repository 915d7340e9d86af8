"""Reports of progress: work reports to a listener, and nothing happens if there is none. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

_Thing = TypeVar("_Thing")
_LEAST_SEEN = 3  # Minimum number of points for an estimate.
_FEW = 6  # Up to this number of points, all are used.


class Task(Protocol):
    """A piece of work that is running."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Report that `amount` more units are done; `fields` are details that are shown, by name."""

    def expect(self, left: float) -> None:
        """Report the expected number of remaining units, if it is known only from the convergence of the work."""

    def evaluated(self, **fields: object) -> None:
        """Report the result of an evaluation; without a terminal, it is shown as a line."""


class Listener(Protocol):
    """Shows tasks and warnings to a person."""

    def start(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> Task:
        """Show a new task inside the tasks that are running; see `task`."""

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
    """Report a task to the listener for the duration of the block; call `advance` on the yielded `Task`.

    Args:
        label: Name of the task, one or two words.
        total: Number of units; None if it is not known.
        units: Name of the units, such as "products". If empty, each unit consists of inner tasks, which measure its work.
        done: Number of units that were done before, by an interrupted process.
        parts: The expected inner tasks, by label and in order, each with its work: in Hessian-vector products, or for
            training runs in samples.
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
    """Yield the things one by one, and report which one is processed."""
    with task(label, total=len(things)) as shown:
        for thing in things:
            yield thing
            shown.advance(1)


def left_of_fall(history: Sequence[Sequence[float]]) -> float | None:
    """Return how many more steps a number needs to decrease to 0, by a linear fit to the last half of its history.

    Args:
        history: Pairs (steps, number) in order; the number is for example ln(residual / allowed residual).

    Returns:
        The number of steps; None if the number does not decrease, or there are fewer than three points.
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
    """Yield a list to which every warning inside the block is added; the warnings are also shown."""
    messages: list[str] = []
    token = _gathered.set((*_gathered.get(), messages))
    try:
        yield messages
    finally:
        _gathered.reset(token)


def warn(message: str) -> None:
    """Show a warning, one sentence, through the listener; inside a block of `gathering`, repeated warnings are ignored."""
    known = _gathered.get()
    if known and message in known[0]:
        return
    for messages in known:
        messages.append(message)
    listener = _listener.get()
    if listener is not None:
        listener.warn(message)


def note(message: str) -> None:
    """Show a note, one sentence for a user who wants details, through the listener."""
    listener = _listener.get()
    if listener is not None:
        listener.note(message)


def say(message: str) -> None:
    """Show one sentence about the work that begins, through the listener."""
    listener = _listener.get()
    if listener is not None:
        listener.say(message)
