"""The first signal waits for the end of an update, the second does not; signals to processes are in tests/machine."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sharpcli.errors import Stopped
from sharpcli.training.interrupt import deferred

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_signal_is_held_back_until_it_is_asked_for(number: signal.Signals):
    with deferred() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as stopped:
            interrupt.check()
    assert stopped.value.number == number
    assert isinstance(stopped.value, KeyboardInterrupt)


def test_a_second_signal_ends_at_once():
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), deferred():
        twice()


def test_handlers_are_put_back_also_after_an_error():
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(ZeroDivisionError), deferred():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_another_thread_touches_no_handler():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with deferred() as interrupt:
            interrupt.check()
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
