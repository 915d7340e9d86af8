"""A terminal of some columns to run commands on, and what stands on its screen: just the codes that a bar is drawn with."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import Machine

_CODE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
_SECONDS = 120


@dataclass
class Screen:
    """What stands on a screen after text was written to it.

    Attributes:
        columns: Of the terminal.
        lines: From the top.
        longest: The largest number of characters that ever stood in one line.
        frames: Every content that the last line ever had.
        cursor: Whether it is shown.
    """

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    longest: int = 0
    frames: list[str] = field(default_factory=list)
    cursor: bool = True
    row: int = 0
    column: int = 0

    def write(self, text: str) -> None:
        place = 0
        while place < len(text):
            found = _CODE.match(text, place)
            if found:
                self._obey(*found.groups())
                place = found.end()
                continue
            self._put(text[place])
            place += 1

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._keep()
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1
            self.longest = max(self.longest, len(self.lines[self.row].rstrip()))

    def _obey(self, numbers: str, code: str) -> None:
        if code == "K":
            self._keep()
            self.lines[self.row] = ""
        elif code == "A":
            self.row = max(self.row - int(numbers or 1), 0)
        elif numbers == "?25":
            self.cursor = code == "h"
        else:
            assert code == "m", f"a code that this screen does not know: {numbers}{code}"

    def _keep(self) -> None:
        if self.lines[self.row] and self.lines[self.row] not in self.frames[-1:]:
            self.frames.append(self.lines[self.row])

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


@dataclass(frozen=True)
class Shown:
    """How a command ended whose stderr was a terminal."""

    exit_code: int
    stdout: str
    screen: Screen
    raw: str


def on_terminal(
    machine: Machine | None,
    *words: object,
    columns: int,
    interrupt: Callable[[str], bool] | None = None,
    cwd: Path | None = None,
    **environment: str,
) -> Shown:
    """Run a command with stderr on a terminal and stdout in a file; press Ctrl-C once what was written says so.

    Args:
        machine: Starts it; None for an interpreter of its own, where what happens before torch is loaded matters.
        words: Of the command line.
        columns: Of the terminal.
        interrupt: Tells from all that was written so far whether to press Ctrl-C.
        cwd: Its folder.
        environment: Changes to that of this process.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    changed = dict.fromkeys(("NO_COLOR", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")) | {
        "TERM": "xterm-256color",
        **environment,
    }
    try:
        if machine is not None:
            number = machine.start(*words, cwd=cwd, stderr=os.ttyname(its), **changed)
            os.close(its)
            written = _read(ours, number, interrupt)
            answer = machine.end()
            code, stdout = answer.exit_code, answer.stdout
        else:
            variables = {key: value for key, value in {**os.environ, **changed}.items() if value is not None}
            line = [sys.executable, "-m", "sharpcli", *map(str, words)]
            with tempfile.TemporaryFile() as file:  # A pipe would be full before the terminal falls silent.
                process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=file, stderr=its, cwd=cwd, env=variables)
                os.close(its)
                try:
                    written = _read(ours, process.pid, interrupt)
                    code = process.wait(timeout=_SECONDS)
                finally:
                    process.kill()
                file.seek(0)
                stdout = file.read().decode()
    finally:
        os.close(ours)
    screen = Screen(columns)
    screen.write(written)
    return Shown(code, stdout, screen, written)


def _read(ours: int, number: int, interrupt: Callable[[str], bool] | None) -> str:
    """Read until the process has closed the terminal, and press Ctrl-C on it where that is wanted."""
    written, end = b"", time.monotonic() + _SECONDS
    while time.monotonic() < end:
        try:
            part = os.read(ours, 65536)
        except OSError:  # The other side has hung up.
            break
        if not part:
            break
        written += part
        if interrupt is not None and interrupt(written.decode(errors="ignore")):
            os.kill(number, signal.SIGINT)
            interrupt = None
    return written.decode()
