"""Settings of `interpolate`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.settings.base import PATH_BN_POLICIES, SPLITS, AnalysisSettings, option, require_at_least, require_choice
from sharpcli.settings.ranges import bounds_of

PATHS = ("linear", "arc", "bezier")


@dataclass(frozen=True, kw_only=True)
class InterpolateSettings(AnalysisSettings):
    """The path between two solutions, and the points on it."""

    _splits = (*SPLITS, "both")
    range: str = option("-0.5:1.5", "Range of α; α = 0 is A and α = 1 is B, and both are always included.", "LO:HI")
    points: int = option(21, "Number of equally spaced values of α, both ends of the range included.", "N")
    path: str = option(
        "linear",
        "linear, arc (sin(απ/2)·B + cos(απ/2)·A) or bezier (a quadratic curve whose control point is trained).",
        "NAME",
    )
    bezier_steps: int = option(500, "Steps of Adam that train the control point of a Bézier curve.", "N")
    bezier_batch: int = option(128, "Samples per step of Adam.", "N")
    split: str = option("both", "Split to evaluate: train, test or both; both is train if the data have no test split.", "NAME")
    bn: str = option(
        "recompute",
        "BatchNorm statistics along the path: recompute (at each point) or eval (interpolate the stored ones).",
        "NAME",
    )
    align: bool = option(
        False, "First permute the hidden units of B to match those of A (weight matching). B computes the same function."
    )
    curvature: bool = option(
        False, "Also compute λmax of the Hessian at each point, and the curvature of the loss along a linear path."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("path", self.path, PATHS)
        require_choice("bn", self.bn, PATH_BN_POLICIES)
        for name, least in (("points", 2), ("bezier_steps", 1), ("bezier_batch", 2)):
            require_at_least(name.replace("_", "-"), getattr(self, name), least)
        self.bounds()

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest α.

        Raises:
            SettingsError: The range is not LO:HI with LO < HI, both finite.
        """
        return bounds_of(self.range)
