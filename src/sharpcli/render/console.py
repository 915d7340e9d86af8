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

_WIDE = 200  # Columns where nobody is watching: a table in a file or a pipe is not folded.


def console(stream: IO[str]) -> Console:
    """Return a console on a stream; colour and folding only for a terminal, NO_COLOR and COLUMNS honoured."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(file=stream, width=width, highlight=False, markup=False)


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
            self.console.print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)

    def say(self, message: str) -> None:
        """Write a sentence."""
        if not self.quiet:
            self.console.print(Text(message), soft_wrap=True)

    def note(self, message: str) -> None:
        """Write a note, if they are wanted."""
        if self.verbose and not self.quiet:
            self.console.print(Text.assemble(("note: ", "cyan"), message), soft_wrap=True)
