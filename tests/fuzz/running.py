"""Run many cases in one process: each is damaged by its own seed, asked, and told where it does neither answer nor refuse."""

from __future__ import annotations

import gc
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from typer.testing import CliRunner

from sharpcli.cli.app import app
from sharpcli.errors import SharpcliError
from tests.fuzz.kinds import Kind, Material, kinds

_LONGEST = 30  # Seconds after which a case hangs.
_MOST = 1.5  # GiB that the process may grow by in one case.
_REFUSED = (2, 3, 4)
_LINES = ("error:", "hint:")  # All of stderr after warnings of our own; between them a table of details, indented.


class Hang(BaseException):
    """A case that does not come to an end."""


@dataclass
class Report:
    """What came of the cases.

    Attributes:
        counts: Answers and refusals by kind.
        findings: What neither answered nor refused: kind, number, what was done, what happened.
        slowest: Seconds and number of the longest case.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def table(self) -> str:
        """Return the counts as lines."""
        names = dict.fromkeys(kind for kind, _ in self.counts)
        rows = []
        for name in names:
            answered, refused, escaped = (self.counts[name, what] for what in ("answered", "refused", "escaped"))
            rows.append(
                f"{name:20} {answered + refused + escaped:6} {answered:6} answered {refused:6} refused {escaped:4} escaped"
            )
        return "\n".join(rows)


def run(seed: int, numbers: range, *, every_line: int = 25) -> Report:
    """Make and ask the cases of these numbers; the kinds take turns.

    Args:
        seed: Of all of them, with the number of each.
        numbers: Of the cases.
        every_line: One in so many cases is asked once more, through the command line.
    """
    report = Report()
    with tempfile.TemporaryDirectory() as place:
        material = Material(Path(place) / "material")
        every = kinds(material)
        for number in numbers:
            kind, folder = every[number % len(every)], Path(place) / "case"
            folder.mkdir()
            _case(kind, Random(f"{seed}:{number}"), number, folder, report, through_line=number // len(every) % every_line == 0)
            shutil.rmtree(folder)
    return report


def _case(kind: Kind, random: Random, number: int, folder: Path, report: Report, *, through_line: bool) -> None:
    began, before = time.perf_counter(), _gibibytes()
    done, wrong = "", ""
    try:
        with warnings.catch_warnings(action="ignore"):  # Of kinds of tensors that torch is going to drop.
            done = kind.make(random, folder)
    except Exception as error:
        report.findings.append(f"{kind.name} {number}: the case cannot be made: {error!r} {traceback.format_exc()[-600:]}")
        return
    with written() as streams, warnings.catch_warnings(record=True) as seen, alarm():
        warnings.simplefilter("always")
        try:
            if through_line and kind.line is not None:
                outcome, wrong = _through_line(kind.line(folder))
            if not wrong:
                kind.ask(folder)
                outcome = "answered"
        except SharpcliError as error:
            outcome = "refused"
            wrong = _not_a_refusal(error)
        except (Exception, Hang) as error:
            wrong = f"{type(error).__name__}: {str(error)[:150]} {_place(error)}"
        gc.collect(0)
    wrong = wrong or (f"writes {streams[0][:200]!r}" if streams else "")
    if seen and not wrong:
        wrong = f"warns: {seen[0].category.__name__} {str(seen[0].message)[:150]}"
    if _gibibytes() - before > _MOST and not wrong:
        wrong = f"took {_gibibytes() - before:.1f} GiB"
    if wrong:
        outcome = "escaped"
        report.findings.append(f"{kind.name} {number} ({done}): {wrong}")
    report.counts[kind.name, outcome] += 1
    report.slowest = max(report.slowest, (time.perf_counter() - began, f"{kind.name} {number} ({done})"))


def _through_line(words: list[str]) -> tuple[str, str]:
    """Run a command line in this process; tell what came of it, and what is wrong with that."""
    result = CliRunner().invoke(app, words)
    if result.exit_code == 0:
        return "answered", ""
    streams = f"stdout {result.stdout[:99]!r}, stderr {result.stderr[-300:]!r}"
    sound = sound_refusal(result, inspecting=words[0] == "inspect")
    return "refused", "" if sound else f"exit code {result.exit_code}, {streams}"


def sound_refusal(answer: Any, *, inspecting: bool = False) -> bool:
    """Tell whether a command has refused as it should: its exit code, nothing on stdout, one sentence and one hint.

    Args:
        answer: Exit code, stdout and stderr.
        inspecting: `inspect` may print its checks, of which one has failed, and end with the exit code of a refusal.
    """
    said = [line for line in answer.stderr.splitlines() if not line.startswith("warning:")]
    lines = [line.partition(" ")[0] for number, line in enumerate(said) if not (number > 0 and line.startswith("  "))]
    leaked = "Internal error" in answer.stderr or "Traceback" in answer.stderr
    reported = inspecting and re.search(r"\bNO\b", answer.stdout) is not None
    return answer.exit_code in _REFUSED and (reported or not answer.stdout) and lines == list(_LINES) and not leaked


@contextmanager
def written() -> Iterator[list[str]]:
    """Catch what is written to the two streams of the process by whatever is not Python, or goes round its streams."""
    found: list[str] = []
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield found
        finally:
            for stream, old in zip((1, 2), kept, strict=True):
                os.dup2(old, stream)
                os.close(old)
            file.seek(0)
            found += [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _not_a_refusal(error: SharpcliError) -> str:
    """Tell what a refusal lacks; "" if it is one sentence and a hint."""
    if error.exit_code not in _REFUSED:
        return f"exit code {error.exit_code}"
    if not error.message or not error.hint:
        return f"no hint: {error.message}"
    try:
        (error.message + error.hint).encode()
    except UnicodeEncodeError:
        return f"a message that cannot be written: {error.message!r}"
    return f"a message of {len(error.message)} characters" if len(error.message) > 10_000 else ""


def _place(error: BaseException) -> str:
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    own = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if "sharpcli" in f.filename]
    return f"[{own[-1] if own else ''} ... {frames[-1]}]"


def _gibibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def alarm() -> Iterator[None]:
    """Raise `Hang` where a case does not end."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
