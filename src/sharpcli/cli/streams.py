"""Separate streams for the results and for the messages, which no other code writes to."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from typing import TextIO

_WIDTHS = ("COLUMNS", "TERMINAL_WIDTH")
_NARROWEST = 10  # Smallest width of a table in columns.
_STDOUT, _STDERR = 1, 2
CLOSED_PIPE = 141  # Exit code if the reader has closed the pipe: 128 + SIGPIPE.


@dataclass(frozen=True)
class Streams:
    """The streams for results and messages.

    Attributes:
        apart: Whether prints of other code are redirected to stderr already.
    """

    answer: TextIO
    messages: TextIO
    apart: bool

    def close(self) -> None:
        """Close both if `apart`; output that a full or closed stream has not taken is discarded."""
        for stream in (self.answer, self.messages) if self.apart else ():
            with contextlib.suppress(OSError):
                stream.close()


class _Forgiving(io.FileIO):
    """A file for messages: a message that cannot be written, such as to a full disk, is discarded without an error."""

    def write(self, data: object) -> int:
        """Write bytes, or discard them."""
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def repair() -> None:
    """Open standard streams that the parent process has closed, and remove invalid widths from the environment.

    Without this, the first file that is opened would get the number of a closed stream, and output would be written into it.

    Raises:
        OSError: stdout is closed, so results cannot be written.
    """
    closed = [number for number in (0, _STDOUT, _STDERR) if not _is_open(number)]
    for number in closed:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    if sys.stderr is None:
        sys.stderr = _text(_Forgiving(_STDERR, "w", closefd=False))
    for name in _WIDTHS:
        given = os.environ.get(name, str(_NARROWEST))
        if not (given.isascii() and given.isdecimal() and len(given) < 6 and int(given) >= _NARROWEST):
            del os.environ[name]
    if _STDOUT in closed:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        raise OSError("stdout is closed")


def apart() -> Streams:
    """Return streams for results and messages, and redirect all other prints, of Python and of C code, to stderr.

    This lasts until the process ends: a thread or an exit handler of a model may print at any time. If the two streams
    are not those of the process, as in a test, only prints of Python are redirected.
    """
    given = Streams(_plain(sys.stdout), _plain(sys.stderr), apart=False)
    if (_number(sys.stdout), _number(sys.stderr)) != (_STDOUT, _STDERR):
        return given
    given.answer.flush()
    answer = _text(io.FileIO(os.dup(_STDOUT), "w"), sys.stdout.encoding)
    messages = _text(_Forgiving(os.dup(_STDERR), "w"), sys.stderr.encoding)
    os.dup2(_STDERR, _STDOUT)
    sys.stdout, sys.stderr = (_text(_Forgiving(number, "w", closefd=False)) for number in (_STDOUT, _STDERR))
    return Streams(answer, messages, apart=True)


def _plain(stream: TextIO) -> TextIO:
    """Set a stream to write question marks for characters that its encoding does not have; return the stream."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def _text(raw: io.FileIO, encoding: str | None = None) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding or "utf-8", errors="replace", line_buffering=True)


def _number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
