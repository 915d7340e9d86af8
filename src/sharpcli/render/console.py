"""Two streams: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from sharpcli import progress
from sharpcli.render.folding import UNLIMITED, fold_message, usable, visible


def console(stream: IO[str]) -> Console:
    """Return a console on a stream.

    It has the width that COLUMNS says, else that of the terminal; a pipe or a file has no width, so that nothing is folded
    there. Only a terminal has colours, and none with NO_COLOR.
    """
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) else None if stream.isatty() else UNLIMITED
    return Console(file=stream, width=width, highlight=False, markup=False)


def tell(to: Console, sentence: str, word: str = "", colour: str = "") -> None:
    """Write a sentence, folded at words, with a coloured word before it that says what it is."""
    start = f"{word}: " if word else ""
    for place, line in enumerate(fold_message(visible(start + sentence), usable(to.width))):
        text = Text(line)
        if not place:
            text.stylize(colour, 0, len(start))
        to.print(text, soft_wrap=True)


def tell_error(stream: IO[str], message: str, hint: str) -> None:
    """Write what is wrong, and below it what to do."""
    for word, sentence, colour in (("error", message, "red"), ("hint", hint, "cyan")):
        if sentence:
            text = " ".join(sentence.split()).rstrip(".")
            tell(console(stream), text if text.endswith("?") else f"{text}.", word, colour)


class _Shown:
    """A bar on the screen."""

    def __init__(self, bars: Progress, identity: TaskID, label: str) -> None:
        self.bars, self.identity, self.label, self.fields = bars, identity, label, dict[str, object]()

    def advance(self, amount: float = 1, **fields: object) -> None:
        self.fields |= fields
        text = "  ".join(f"{key} {value}" for key, value in self.fields.items() if value != "")
        self.bars.update(self.identity, advance=amount, text=text)


class TerminalListener:
    """Shows progress as bars with an ETA on a terminal, and warnings and notes as lines, all on stderr.

    Where stderr is not a terminal only lines are written.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """Say nothing but errors if `quiet`; write notes too if `verbose`."""
        self.quiet, self.verbose = quiet, verbose
        self.console = console(sys.stderr)
        self._bars: Progress | None = None
        self._open = 0

    def start(self, label: str, total: float | None) -> progress.Task:
        """Add a bar."""
        if self._bars is None:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=False, ratio=1)),
                console=self.console,
                disable=self.quiet or not self.console.is_terminal,
                transient=True,
            )
            self._bars.start()
        self._open += 1
        return _Shown(self._bars, self._bars.add_task(label, total=total, text=""), label)

    def finish(self, task: progress.Task) -> None:
        """Take the bar away; the last one clears the screen of bars."""
        assert isinstance(task, _Shown)
        assert self._bars is not None
        self._bars.remove_task(task.identity)
        self._open -= 1
        if not self._open:
            self._bars.stop()
            self._bars = None

    def warn(self, message: str) -> None:
        """Write a warning."""
        if not self.quiet:
            tell(self.console, message, "warning", "yellow")

    def say(self, message: str) -> None:
        """Write a sentence."""
        if not self.quiet:
            tell(self.console, message)

    def note(self, message: str) -> None:
        """Write a note, if they are wanted."""
        if self.verbose and not self.quiet:
            tell(self.console, message, "note", "cyan")
