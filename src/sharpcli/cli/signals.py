"""Signals that ask the process to end."""

from __future__ import annotations

import signal
from types import FrameType

from sharpcli.errors import Stopped

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_received: list[int] = []


def listen() -> None:
    """Handle SIGTERM (sent by clusters) and SIGHUP (sent if the terminal closes) like Ctrl-C, unless they are ignored."""
    for name in _SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP.
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def ignore() -> None:
    """Ignore these signals: the process ends when the first process of its run ends."""
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


def received() -> Stopped | None:
    """Return the exception of the last signal, or None; C code of torch may have replaced this exception by another one."""
    return Stopped(_received[-1]) if _received else None


def _stop(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise Stopped(number)
