"""Stop by Ctrl-C, SIGTERM or SIGHUP between two updates, never during an update: the saved state is always complete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sharpcli.errors import Stopped

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupt:
    """Stores the signal that asked the run to stop."""

    asked: int | None = None

    def check(self) -> None:
        """Raise Stopped (a KeyboardInterrupt) if a signal was received."""
        if self.asked is not None:
            raise Stopped(self.asked)


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Delay the first Ctrl-C, SIGTERM (sent by clusters) or SIGHUP until `check` is called; a second signal acts at once.

    A signal that is ignored, such as SIGHUP under nohup, stays ignored.
    """
    interrupt = Interrupt()

    def remember(number: int, frame: FrameType | None) -> None:
        if interrupt.asked is not None:
            handler = before[number]
            if callable(handler):
                handler(number, frame)
            raise Stopped(number)
        interrupt.asked = number

    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Only the main thread may handle signals, and only it receives Ctrl-C.
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]  # Windows has no SIGHUP.
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, remember) for number in heard}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
