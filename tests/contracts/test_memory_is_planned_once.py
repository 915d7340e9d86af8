"""Shares of memory stand in memory.py; what asks the machine itself only refuses what cannot fit, or reports it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sharpcli

SOURCE = Path(sharpcli.__file__).parent
ASKS = re.compile(r"mem_get_info|memory_reserved|sysconf\(.SC_|MemAvailable|\bfree_memory\(|\bavailable_memory\(")
PLACES = {"memory.py", "host_memory.py", "models/size.py", "analyses/doctor.py"}
WORDS = {"BYTES", "SHARE", "BUDGET", "MEMORY"}
# Constants of such names that bound something else.
OTHERS = {
    ("datasets/decoding.py", "_TWO_BYTES"),  # Modes of images.
    ("datasets/standardisation.py", "TWO_BYTES"),  # The full scale of a channel.
    ("errors.py", "_NO_MEMORY"),  # Messages of allocators.
    ("linalg/krylov.py", "_WARM_SHARE"),  # Of a start vector.
    ("render/progress_bar.py", "_SHARE_APART"),  # Of the elapsed time.
}


def constants(source: str) -> Iterator[str]:
    """Give the names of a module's constants that have a word of memory in them."""
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name) and WORDS & set(node.id.split("_")):
                yield node.id


def test_nobody_else_asks_how_much_memory_is_free():
    asking = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if ASKS.search(path.read_text())}
    assert asking == PLACES


def test_nobody_else_names_a_share_of_memory():
    files = {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*.py")}
    named = {(file, name) for file, text in files.items() for name in constants(text)}
    assert {(file, name) for file, name in named if file not in PLACES} == OTHERS


@pytest.mark.parametrize(
    "line", ["_LEAST_SHARE = 8", "_CHUNK_BYTES, _MOST_SAMPLES = 2**28, 1000", "_CARD_SHARE, _CARD_SAMPLES = 1 / 16, 2**16",
             "_MEMORY_SHARE: Final = 0.3"],
)  # fmt: skip
def test_a_share_in_another_file_is_seen(line: str):
    assert len(list(constants(line))) == 1
