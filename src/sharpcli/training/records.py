"""The records of a run, with one entry per line: metrics.jsonl, distances.jsonl, sharpness.jsonl and so on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharpcli import files
from sharpcli.results import plain

NAMES = ("metrics", "distances", "sharpness", "critical", "measures")


@dataclass(eq=False)
class Records:
    """Lines by kind: a number of updates and the values there; files are written in full, so no line is partial or repeated.

    Attributes:
        folder: Folder of the files.
        lines: Lines of each kind, in order.
    """

    folder: Path
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in NAMES})

    def add(self, kind: str, line: dict[str, Any]) -> None:
        """Add a line in memory; `write` writes it to disk."""
        self.lines[kind].append({key: plain(value) for key, value in line.items()})

    def has(self, kind: str, step: int) -> bool:
        """Return whether the last line of a kind belongs to this number of updates."""
        return bool(self.lines[kind]) and self.lines[kind][-1]["step"] == step

    def write(self) -> None:
        """Write the files of all kinds that have lines."""
        for kind, lines in self.lines.items():
            if lines:
                text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
                files.write_bytes(self.folder / f"{kind}.jsonl", text.encode())
