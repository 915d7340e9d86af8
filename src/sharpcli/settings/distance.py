"""Settings of `distance`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.settings.base import AnalysisSettings, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class DistanceSettings(AnalysisSettings):
    """Which weights to measure from. Only weights are read; a given model separates parameters from buffers."""

    init: str | None = option(None, "Initial weights to measure from. Default: those of the checkpoint's run.", "FILE")
    per_layer: bool = option(False, "Add one row per tensor, with the mean and the largest relative distance of its filters.")
    fit_from: int = option(1, "First update that the fits of log t and t^p use.", "N")
    fit_to: int | None = option(
        None,
        "Last update that the fits use, such as the last one before the learning rate drops. Default: the end of the run.",
        "N",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("fit-from", self.fit_from, 1)
        require_at_least("fit-to", self.fit_to, 1)
