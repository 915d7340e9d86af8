"""sharpcli doctor"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpcli.cli.options import with_options
from sharpcli.cli.running import answer
from sharpcli.settings import DoctorSettings

NAME = "doctor"
QUESTION = "Look inside"
EXAMPLES = (
    ("sharpcli doctor", "What to read first if something is slow or does not start."),
    ("sharpcli doctor --json", "The same for a report of a bug."),
)


@with_options(DoctorSettings, plot=False, code=False)
def command(values: Any = None, how: Any = None) -> None:
    """Versions, devices, threads, free memory and caches of this machine, and what would make analyses faster."""

    def compute(settings: DoctorSettings) -> Sequence[Any]:
        from sharpcli.analyses.doctor import doctor

        return [doctor(settings=settings)]

    answer(NAME, DoctorSettings, values, compute, how)
