"""What `distance` answers."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.results.base import Result, Subject


@dataclass(frozen=True, kw_only=True)
class LayerDistance:
    """How far one tensor went."""

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
    """Distances against updates with both fits; `preferred` is None where Akaike's criterion does not tell them apart.

    `aic_difference` is that of the power law minus that of the logarithm: greater than 0 speaks for the logarithm.
    Distances of one run are not independent, so the criterion is surer of itself than it should be.
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
    """How far the weights of one checkpoint are from the reference, all Euclidean, over parameters only."""

    path: str
    step: int | None
    norm: float
    init_norm: float
    distance: float
    relative: float | None
    cosine: float | None
    max_change: float
    layers: tuple[LayerDistance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DistanceResult(Result):
    """Weight distance from initialization, of one checkpoint or along the saved steps of a run.

    `known_by` says what told parameters from buffers: "model", "record", or "names and values", which is a guess. `ties`
    are further names of parameters, each with the one that it is counted under.
    """

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
