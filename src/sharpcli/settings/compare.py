"""Settings of `compare`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.errors import SettingsError
from sharpcli.settings.base import TOLERANCE, AnalysisSettings, option, require_at_least, require_choice

METRICS = ("hessian", "sharpness", "distance")


@dataclass(frozen=True, kw_only=True)
class CompareSettings(AnalysisSettings):
    """What to measure of each checkpoint."""

    metrics: tuple[str, ...] = option(
        METRICS, "What to measure in addition to losses, accuracies and gaps: hessian, sharpness, distance.", "NAME[,NAME]"
    )
    measure: tuple[str, ...] = option(
        (), "Further measure with its options, NAME[:OPTION=VALUE,...]; see sharpness --list. Repeat for several.", "NAME[:...]"
    )
    epsilon: float = option(1e-3, "Box size ε of the ε-sharpness in full space.", "E")
    tol: float = option(TOLERANCE, "Relative tolerance of the largest eigenvalue.", "X")
    init: str | None = option(None, "Initial weights for the distance. Default: those of each checkpoint's run.", "FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.metrics:
            raise SettingsError("--metrics is empty.", f"Name one or more of {', '.join(METRICS)}.")
        for name in self.metrics:
            require_choice("metrics", name, METRICS)
        require_at_least("epsilon", self.epsilon, 0, strictly=True)
        require_at_least("tol", self.tol, 0, strictly=True)
