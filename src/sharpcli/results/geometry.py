"""What paths, distances and surfaces answer."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.results.base import Conditions, Result, Subject


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Loss and accuracy along a path on one split. A loss that is not finite is a gap (None in JSON).

    `barrier` is the largest rise of the loss over the straight line between the two ends, within
    0 <= α <= 1; it is 0 where the loss never rises above that line.
    """

    split: str
    num_samples: int
    loss: tuple[float, ...]
    accuracy: tuple[float | None, ...]
    barrier: float | None
    barrier_alpha: float | None
    not_finite: int


@dataclass(frozen=True, kw_only=True)
class PathCurvature:
    """Curvature at each point of a path, of the loss on the first split.

    `along` is the second difference of the loss in units of weight length, dᵀHd of the unit direction d of a straight
    path, so at most `lambda_max` but for the width of the differences; None at both ends and on other paths.
    """

    lambda_max: tuple[float | None, ...]
    verdicts: tuple[str, ...]
    along: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class PathResult(Result):
    """Loss and accuracy along one path; α = 0 is `start`, α = 1 is `end`. `barrier` is that of the first split.

    `straight_barrier` is that of the linear path at the same points, for a Bézier curve that was trained around it.
    `aligned_share` is the share of hidden units that were moved, where the end was aligned with the start.
    """

    start: Subject
    end: Subject
    path: str
    loss_function: str
    batch_norm: str
    barrier: float | None
    alphas: tuple[float, ...]
    curves: tuple[Curve, ...]
    distance: float
    straight_barrier: float | None = None
    aligned_share: float | None = None
    output: str | None = None
    preprocessing: str = ""
    curvature: PathCurvature | None = None


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
class Way:
    """The way through the saved steps of a run: how long it is, and how much it turns.

    `straightness` is displacement over length, 1 for a straight line. `turns` are the cosines of the angle between each
    stretch and the next.
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
    way: Way | None = None
    growth: Growth | None = None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point that a plane was made from, at its coordinates in the plane."""

    name: str
    alpha: float
    beta: float
    distance_from_plane: float


@dataclass(frozen=True, kw_only=True)
class SurfaceResult(Result):
    """Losses over a plane, by row β and column α; one that is not finite is a gap (None in JSON).

    `lengths` are the Euclidean lengths of the axes, `explained` the share of a trajectory's variance along each,
    `eigenvalues` those of the Hessian along each, where they apply.
    """

    checkpoint: Subject
    conditions: Conditions
    batch_norm: str
    axes: tuple[str, str]
    lengths: tuple[float, ...]
    explained: tuple[float, ...]
    eigenvalues: tuple[float, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    loss: tuple[tuple[float, ...], ...]
    loss_at_origin: float
    marks: tuple[Mark, ...]
    not_finite: int
