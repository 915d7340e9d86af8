"""Whether two JSON documents have the same numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# Texts and numbers that tell how something was computed or how well: time, rounding errors, the path of a search.
_HOW = (
    "seconds", "command_line", "processes", "device", "engine", "threads", "residual", "noise", "rounding", "orthogonality",
    "interval", "history", "density", "evaluations", "passes", "iterations", "solver", "restarts", "lower", "upper",
)  # fmt: skip


def differences(one: str, other: str, tolerance: float, *, but_for: tuple[str, ...] = ()) -> list[tuple[object, ...]]:
    """Return the places at which two documents differ by more than a relative tolerance, but for some names."""
    first, second = (dict(_leaves(json.loads(text), "", (*_HOW, *but_for))) for text in (one, other))
    found: list[tuple[object, ...]] = [(name,) for name in first.keys() ^ second.keys()]
    for name in first.keys() & second.keys():
        left, right = first[name], second[name]
        if isinstance(left, float) and isinstance(right, int | float):
            if abs(left - right) > tolerance * max(abs(left), abs(right), 1e-3):
                found.append((name, left, right))
        elif left != right:
            found.append((name, left, right))
    return found


def _leaves(value: Any, name: str, left_out: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            if not any(word in key for word in left_out):
                yield from _leaves(part, f"{name}.{key}", left_out)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{name}[{number}]", left_out)
    else:
        yield name, value
