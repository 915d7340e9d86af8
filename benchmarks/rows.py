"""Measurements into rows: one a net and tool, with the medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Measurement = dict[str, Any]
OURS = "sharpcli"


def row_of(net: str, tool: str, k: int, measured: Sequence[Measurement], ours: Sequence[Measurement]) -> dict[str, Any]:
    """Return the row of a tool on a net.

    Args:
        net: Name.
        tool: Name.
        k: Eigenvalues asked for.
        measured: One a round; or a last one with an "error".
        ours: Those of sharpcli in the same rounds, for the ratio: times of one round are compared, then their median taken.
    """
    row: dict[str, Any] = {"net": net, "tool": tool, "k": k}
    done = [one for one in measured if "error" not in one]
    names = ("products", "seconds", "worst_residual", "worst_eigenvalue_error", "peak_bytes", "cpu_seconds")
    for name in names:
        found = [one[name] for one in done if one.get(name) is not None]
        row[name] = statistics.median(found) if found else None
    if row["products"] is not None:
        row["products"] = int(row["products"])
        row["peak_bytes"] = int(row["peak_bytes"])
    seconds = [one["seconds"] for one in done]
    pairs = [
        (one["seconds"], other["seconds"]) for one, other in zip(measured, ours, strict=False) if "seconds" in {*one} & {*other}
    ]
    row["seconds_min"], row["seconds_max"] = (min(seconds), max(seconds)) if seconds else (None, None)
    row["ratio"] = statistics.median(theirs / own for theirs, own in pairs) if pairs else None
    row["rounds"] = len(done)
    row["settings"] = done[0]["settings"] if done else None
    row["error"] = next((one["error"] for one in measured if "error" in one), None)
    return row
