"""How far a run is, to stderr; stdout is for figures."""

from __future__ import annotations

import sys


def tell(words: str) -> None:
    """Say it."""
    print(f"benchmarks: {words}", file=sys.stderr, flush=True)
