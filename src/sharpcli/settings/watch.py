"""Settings of `watch`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.settings.base import option, require_at_least
from sharpcli.settings.compare import CompareSettings


@dataclass(frozen=True, kw_only=True)
class WatchSettings(CompareSettings):
    """What to measure at the saved steps of a run."""

    metrics: tuple[str, ...] = option(
        ("hessian",), "What to measure in addition to the losses: hessian (λmax), sharpness (φ), distance.", "NAME[,NAME]"
    )
    every: int = option(1, "Measure every N-th saved step; the first and the last one always.", "N")
    state: str | None = option(None, "Save each row in this folder, and take rows that are saved there.", "FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("every", self.every, 1)
