"""Settings of `surface`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.settings.base import PATH_BN_POLICIES, AnalysisSettings, option, require_at_least, require_choice
from sharpcli.settings.ranges import bounds_of

AXES = ("random", "eigen", "pca")


@dataclass(frozen=True, kw_only=True)
class SurfaceSettings(AnalysisSettings):
    """Which plane to evaluate, and on which grid."""

    axes: str = option(
        "random",
        "Directions: random (filter-normalised), eigen (eigenvectors of the Hessian) or pca (of the saved steps of a run).",
        "NAME",
    )
    range: str | None = option(
        None, "Range of both coordinates. Default: -1:1, or a range that contains the marked points.", "LO:HI"
    )
    points: int = option(25, "Points along each axis.", "N")
    bn: str = option("recompute", "BatchNorm statistics: recompute (at each point) or eval (stored).", "NAME")
    state: str | None = option(None, "Save the computed points in this file, and continue from it if it exists.", "FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("axes", self.axes, AXES)
        require_choice("bn", self.bn, PATH_BN_POLICIES)
        require_at_least("points", self.points, 2)
        self.bounds()

    def bounds(self) -> tuple[float, float] | None:
        """Return the lowest and the highest coordinate, or None if no range was given.

        Raises:
            SettingsError: The range is not LO:HI with LO < HI, both finite.
        """
        return None if self.range is None else bounds_of(self.range)
