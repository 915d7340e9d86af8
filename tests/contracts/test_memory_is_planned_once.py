"""Shares of memory stand in memory.py; what asks the machine itself only refuses what cannot fit."""

from __future__ import annotations

import re
from pathlib import Path

import sharpcli

SOURCE = Path(sharpcli.__file__).parent
ASKS = re.compile(r"mem_get_info|memory_reserved|sysconf\(.SC_|MemAvailable|\bfree_memory\(|\bavailable_memory\(")
PLACES = {"memory.py", "host_memory.py", "models/size.py"}


def test_nobody_else_asks_how_much_memory_is_free():
    asking = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if ASKS.search(path.read_text())}
    assert asking == PLACES


def test_nobody_else_names_a_share_of_memory():
    named = re.compile(r"^_?\w*(MEMORY_SHARE|MEMORY_BUDGET|_BUDGET)\w* *=", re.MULTILINE)
    assert [str(path) for path in SOURCE.rglob("*.py") if named.search(path.read_text())] == []
