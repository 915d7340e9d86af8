"""Results of `distance`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpcli.results.base import Result, Subject


@dataclass(frozen=True, kw_only=True)
class LayerDistance:
    """Distance of one tensor from its initial values."""

    name: str
    size: int
    norm: float
    distance: float
    relative: float | None
    cosine: float | None
    filters: int | None = None
    filter_relative_mean: float | None = None
    filter_relative_max: float | None = None


@dataclass(frozen=True, kw_only=True)
class GrowthFit:
    """One form of growth with t updates: "log", a + b log t, or "power", c t^p; residuals are data minus fit."""

    form: str
    parameters: dict[str, float]
    r_squared: float
    aic: float
    residuals: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Distances against updates with both fits; `preferred` is None if Akaike's criterion (AIC) does not distinguish them.

    `aic_difference` is the AIC of the power law minus that of the logarithm: above 0 it favours the logarithm. Distances
    of one run are not independent, so the criterion is overconfident.
    """

    steps: tuple[int, ...]
    distances: tuple[float, ...]
    fits: tuple[GrowthFit, ...]
    preferred: str | None
    aic_difference: float
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The straight segments that join the initial weights and the saved steps of a run: their lengths and directions.

    `length` is the sum of the lengths, `stretches`; `displacement` is the distance from the initial weights to the last step.
    `straightness` is displacement over length, 1 for a straight line. `turns` are the cosines of the angles between each
    segment and the next.
    """

    length: float
    displacement: float
    straightness: float | None
    stretches: tuple[float, ...]
    turns: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Displacement:
    """Euclidean distance of the parameters of one checkpoint from the reference weights."""

    path: str
    step: int | None
    norm: float
    init_norm: float
    distance: float
    relative: float | None
    cosine: float | None
    max_change: float
    layers: tuple[LayerDistance, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class DistanceResult(Result):
    """Weight distance from initialization, of one checkpoint or along the saved steps of a run.

    `known_by` says how parameters were separated from buffers: "model", "record", or "names and values", which is a guess.
    `ties` maps further names of tied parameters to the name that is counted.
    """

    _headline = ("checkpoint", "distance", "relative")
    checkpoint: Subject
    reference: str
    num_parameters: int
    known_by: str
    ties: dict[str, str]
    buffers: tuple[str, ...]
    distance: float
    relative: float | None
    cosine: float | None
    norm: float
    init_norm: float
    max_change: float
    layers: tuple[LayerDistance, ...]
    steps: tuple[Displacement, ...]
    trajectory: Trajectory | None = None
    growth: Growth | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return one row per layer if layers were requested, else per saved step of a run, else one row."""
        if self.layers:
            return [asdict(layer) for layer in self.layers]
        if self.steps:
            return [{name: value for name, value in asdict(step).items() if name != "layers"} for step in self.steps]
        return super().records()
