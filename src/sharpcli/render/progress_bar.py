"""Progress of a command and its remaining time: one bar on a terminal, lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from sharpcli.render.progress_tree import Overview, Piece

_HALF_A_MINUTE = 30.0
_LEAST_APART, _SHARE_APART = 1.0, 0.02  # Smallest time between two lines: in seconds, and as a fraction of the elapsed time.
_ECHO = 3  # Free columns for what a terminal writes at Ctrl-C.
_SHORTEST, _LONGEST = 8, 30  # Columns of the bar.
_EVERY = 4  # Drawings a second.


class Bar:
    """One line at the bottom of a terminal that shows the progress of a command."""

    def __init__(self, console: Console) -> None:
        """Show nothing before the `with` block."""
        self.overview = Overview(on_evaluation=lambda: None)
        self._console = console
        self._live = Live(self, console=console, transient=True, refresh_per_second=_EVERY)

    def __enter__(self) -> None:
        self._live.start(refresh=True)

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what fits into one line: the task, then times, then details; the bar gets the remaining columns."""
        width = max(min(options.max_width, console.width) - _ECHO, 1)
        overview = self.overview
        right = f"{100 * overview.fraction():3.0f} %"
        left, places, details = _described(overview)
        if (seconds := overview.seconds_left()) is not None:
            right = _if_it_fits(right, f"{right}  {_clock(seconds)} left", width - _SHORTEST)
        left = _if_it_fits(left, ", ".join([*places, left]), width - len(right) - _SHORTEST - 2)
        for number, detail in enumerate(details):
            longer = _if_it_fits(left, f"{left}  {detail}", width - len(right) - _SHORTEST - 2)
            if longer == left:
                break
            left = longer
            if not number:  # The progress of this task comes first, then the elapsed time.
                right = _if_it_fits(right, f"{_clock(overview.elapsed())}  {right}", width - len(left) - _SHORTEST - 2)
        room = width - len(right) - 1
        left = left if len(left) <= room else left[: max(room - 1, 0)] + "…" if room > 1 else ""
        length = min(width - len(left) - len(right) - 2, _LONGEST)
        if left:
            yield Text(left + " ", end="", no_wrap=True)
        if length >= _SHORTEST:
            yield from _only_segments(
                console, ProgressBar(1.0, overview.fraction(), width=length), options.update(width=length)
            )
            yield Text(" ", end="")
        yield Text(right[:width], end="", no_wrap=True)


class Lines:
    """A line for each evaluation, and one every half minute, if there is no terminal."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Write nothing before the `with` block."""
        self.overview = Overview(on_evaluation=self._evaluated)
        self._write, self._last = write, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sharpcli progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(timeout=1.0)

    def _evaluated(self) -> None:
        """Write a line, unless the last one is too recent."""
        elapsed = self.overview.elapsed()
        if elapsed - self._last >= max(_LEAST_APART, min(_SHARE_APART * elapsed, _HALF_A_MINUTE)):
            self._write_line()

    def _watch(self) -> None:
        """Write a line after each half minute without one, also during one long product."""
        while not self._ended.wait(max(self._last + _HALF_A_MINUTE - self.overview.elapsed(), 0.01)):
            if self.overview.elapsed() - self._last >= _HALF_A_MINUTE:
                self._write_line()

    def _write_line(self) -> None:
        overview = self.overview
        self._last = overview.elapsed()
        left, places, details = _described(overview)
        time = f"{_clock(self._last)} elapsed"
        if (seconds := overview.seconds_left()) is not None:
            time += f", about {_clock(seconds)} left"
        with suppress(OSError, ValueError):  # The stream was closed; the work continues.
            self._write("; ".join([", ".join([*places, left, *details]), f"{100 * overview.fraction():.0f} % done", time]))


def _described(overview: Overview) -> tuple[str, list[str], list[str]]:
    """Return the innermost task, its position among others, and details."""
    path = overview.path() or [overview.root]
    *outer, last = path
    named = last.label
    if last.has_parts or not last.units and last.total is not None:  # Between two inner tasks.
        outer, named = path, ""
    places = [place for place in map(_place, outer) if place]
    details = [f"{key.replace('_', ' ')} {_number(value)}" for key, value in list(last.fields.items()) if value is not None]
    if last.units:
        details.insert(0, _count(last))
    if not named and places:
        named = places.pop()
    return named or last.label, places, details


def _place(piece: Piece) -> str:
    """Return the position of a task among several, such as "checkpoint 1 of 2"; "" for a single task."""
    if piece.total is None or piece.units:
        return ""
    if piece.total <= 1:
        return ""
    return f"{piece.label} {min(piece.done + 1, piece.total):.0f} of {piece.total:.0f}"


def _count(piece: Piece) -> str:
    if piece.total is None:
        return f"{piece.done:.0f} {piece.units}"
    return f"{piece.done:.0f} of {'about ' if piece.expected else ''}{piece.total:.0f} {piece.units}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    """Return seconds as H:MM:SS, or with days."""
    days, within_day = divmod(round(seconds), 86400)
    return f"{days} d " * bool(days) + f"{within_day // 3600}:{within_day // 60 % 60:02}:{within_day % 60:02}"


def _if_it_fits(now: str, longer: str, room: int) -> str:
    return longer if len(longer) <= room else now


def _only_segments(console: Console, bar: ProgressBar, options: ConsoleOptions) -> Iterator[Segment]:
    return (segment for segment in console.render(bar, options) if segment.text != "\n")
