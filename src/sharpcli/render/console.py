"""Consoles and messages: results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from rich.console import Console
from rich.text import Text

from sharpcli import progress
from sharpcli.render.folding import UNLIMITED, command_of, fold_message, usable, visible
from sharpcli.render.progress_bar import Bar, Lines
from sharpcli.render.progress_tree import Piece


def console(stream: IO[str]) -> Console:
    """Return a console on a stream.

    Its width is COLUMNS, else that of the terminal. In a pipe or a file nothing is folded. Only a terminal gets colours, and
    not with NO_COLOR.
    """
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) else None if stream.isatty() else UNLIMITED
    return Console(file=stream, width=width, highlight=False, markup=False)


def write_message(to: Console, sentence: str, word: str = "", colour: str = "") -> None:
    """Write a sentence, folded at words, after a coloured word such as "warning"."""
    start = f"{word}: " if word else ""
    for place, line in enumerate(fold_message(visible(start + sentence), usable(to.width))):
        text = Text(line)
        if not place:
            text.stylize(colour, 0, len(start))
        to.print(text, soft_wrap=True)


def write_error(stream: IO[str], message: str, hint: str, details: Sequence[str] = ()) -> None:
    """Write an error, the lines of its table, and its hint below it."""
    to = console(stream)
    write_message(to, _ended(message), "error", "red")
    for line in details:
        to.print(Text(visible(line)), soft_wrap=True)
    if hint:
        write_message(to, _ended(hint), "hint", "cyan")


def _ended(sentence: str) -> str:
    """Return a sentence on one line with one full stop; a command at its end has none, so that it can be copied."""
    text, command = command_of(sentence)
    if command:
        return " ".join(text.split()) + command
    text = " ".join(text.split()).rstrip(".")
    return text if text.endswith("?") else f"{text}."


class TerminalListener:
    """Shows progress as a bar on a terminal and as lines elsewhere, and warnings and notes as lines, all on one stream.

    Progress is shown inside a `with` block. At the end of the block the terminal is restored, also after an exception.
    """

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False, verbose: bool = False) -> None:
        """Write no warnings, notes and progress if `quiet`; write notes if `verbose`. The default stream is stderr."""
        stream = stream or sys.stderr
        self.quiet, self.verbose = quiet, verbose
        self.console = console(stream)
        drawn = stream.isatty() and self.console.is_terminal and not self.console.is_dumb_terminal
        self._shown = Bar(self.console) if drawn else Lines(self._line)
        self._showing = False

    def __enter__(self) -> TerminalListener:
        if not self.quiet:
            self._showing = True
            try:
                self._shown.__enter__()
            except BaseException:  # Ctrl-C may interrupt it.
                self.close()
                raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar and show the cursor again."""
        if self._showing:
            self._showing = False
            self._shown.__exit__(None, None, None)

    def start(self, label: str, total: float | None, *, units: str, done: float, parts: Mapping[str, float]) -> progress.Task:
        """Show a task."""
        return self._shown.overview.start(label, total, units=units, done=done, parts=parts)

    def finish(self, task: progress.Task) -> None:
        """Stop showing a task."""
        assert isinstance(task, Piece)
        self._shown.overview.finish(task)

    def _line(self, message: str) -> None:
        """Write one line, which is never folded: logs are searched line by line."""
        if self.quiet:
            return
        self.console.print(Text.assemble(("progress: ", "cyan"), visible(message)), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Write a warning."""
        if not self.quiet:
            write_message(self.console, message, "warning", "yellow")

    def say(self, message: str) -> None:
        """Write a sentence."""
        if not self.quiet:
            write_message(self.console, message)

    def note(self, message: str) -> None:
        """Write a note if `verbose`."""
        if self.verbose and not self.quiet:
            write_message(self.console, message, "note", "cyan")
