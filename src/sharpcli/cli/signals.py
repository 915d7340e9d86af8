"""Signals that ask the process to end."""

from __future__ import annotations

import signal
from types import FrameType

from sharpcli.errors import Stopped

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_received: list[int] = []


def listen() -> None:
    """Let SIGTERM, which clusters send, and SIGHUP, of a closed terminal, do what Ctrl-C does; ignored ones stay ignored."""
    for name in _SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP.
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def received() -> Stopped | None:
    """Return what the last signal has raised; parts of torch that run in C make other errors of it."""
    return Stopped(_received[-1]) if _received else None


def _stop(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise Stopped(number)
