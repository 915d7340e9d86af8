"""Progress without printing: work reports to whoever listens, and to nobody if nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Report that `amount` more units are done; `fields` are shown beside the bar."""


class Listener(Protocol):
    """Shows tasks and warnings to a person."""

    def start(self, label: str, total: float | None) -> Task:
        """Show a new task of `total` units (None: not known)."""

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
def task(label: str, total: float | None = None) -> Iterator[Task]:
    """Announce a piece of work; call `advance` on what is yielded."""
    listener = _listener.get()
    if listener is None:
        yield _Silent()
        return
    shown = listener.start(label, total)
    try:
        yield shown
    finally:
        listener.finish(shown)


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
