"""How much memory a piece of work takes at its peak, beyond what was there before."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """The growth of the process's largest resident size since this was made, in bytes.

    Where the kernel lets the mark be set back it is measured against what is resident now; elsewhere against the
    largest so far, which is little more, for little has been done before.
    """

    def __init__(self) -> None:
        _give_back()
        try:
            _CLEAR.write_text("5")
            self.way = "VmHWM since clear_refs"
        except OSError:
            self.way = "ru_maxrss"
        self._before = self._mark()

    def bytes(self) -> int:
        """Return it."""
        return max(self._mark() - self._before, 0)

    def _mark(self) -> int:
        if self.way == "ru_maxrss":
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else 1024 * most
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])


def _give_back() -> None:
    """Ask the C library to return what was freed, so that it does not hide growth."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
