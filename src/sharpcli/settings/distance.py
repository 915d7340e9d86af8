"""What `distance` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.settings.base import AnalysisSettings, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class DistanceSettings(AnalysisSettings):
    """From where to measure. Only weights are read; a model that is named tells parameters from buffers."""

    init: str | None = option(None, "Reference weights. Default: the initial weights of the checkpoint's own run.", "FILE")
    per_layer: bool = option(False, "Add one row a tensor, with the mean and the largest relative distance of its filters.")
    fit_from: int = option(1, "First update of a run that the fits of log t and t^p count.", "N")
    fit_to: int | None = option(None, "Last one, such as the last at the first learning rate. Default: all.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("fit-from", self.fit_from, 1)
        require_at_least("fit-to", self.fit_to, 1)
