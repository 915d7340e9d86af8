"""What the other commands answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sharpcli.results.base import Conditions, Result, Subject


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One ε-sharpness. `phi` is a percentage and a lower bound of the true maximum; None if a search failed.

    In a random subspace it is the mean over draws of the subspace, `phi_of_draws`, with its standard error;
    each draw is the best of its L-BFGS-B solves (`phi_of_restarts`, draw by draw) and of one sign ascent.
    """

    measure: str
    epsilon: float
    subspace: int | None
    phi: float | None
    rise: float | None
    max_loss: float | None
    standard_error: float | None
    phi_of_draws: tuple[float | None, ...]
    phi_of_restarts: tuple[float | None, ...]
    phi_of_sign_ascent: tuple[float | None, ...]
    evaluations: int
    iterations: tuple[int, ...]
    share_at_bound: float | None
    status: str
    solver_messages: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one measure says. `value` is None where it failed, which is never told as 0.

    `bound` is "lower" where an inexact search gave the value, None where it is exact or an estimate with a standard
    error. `passes` counts passes over the data, a gradient as two.
    """

    measure: str
    options: dict[str, Any]
    label: str = ""
    value: float | None
    unit: str
    standard_error: float | None
    bound: str | None
    status: str
    details: dict[str, float | None]
    passes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """A measure that `sharpness` knows: what it is, when it does not change, when it misleads, what it costs."""

    name: str
    summary: str
    definition: str
    invariant: str
    misleads: str
    cost: str
    options: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class MeasuresResult(Result):
    """Every measure."""

    rows: tuple[MeasureRow, ...]


@dataclass(frozen=True, kw_only=True)
class SharpnessResult(Result):
    """Keskar's ε-sharpness for each box size and subspace, and the readings of other measures that were asked for."""

    checkpoint: Subject
    conditions: Conditions
    loss: float
    accuracy: float | None
    gradient_norm: float
    weight_norm: float
    measurements: tuple[Measurement, ...]
    readings: tuple[Reading, ...] = ()


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
    barrier: float
    barrier_alpha: float
    not_finite: int


@dataclass(frozen=True, kw_only=True)
class PathResult(Result):
    """Loss and accuracy along one path; α = 0 is `start`, α = 1 is `end`. `barrier` is that of the first split."""

    start: Subject
    end: Subject
    path: str
    loss_function: str
    batch_norm: str
    barrier: float
    alphas: tuple[float, ...]
    curves: tuple[Curve, ...]
    distance: float


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
    """Weight distance from initialization, of one checkpoint or along the saved steps of a run."""

    checkpoint: Subject
    reference: str
    num_parameters: int
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
class CompareRow:
    """One checkpoint beside others; what could not be measured is None and `notes` says why."""

    checkpoint: Subject
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    gap: float
    gap_standard_error: float
    accuracy_gap: float | None
    accuracy_gap_standard_error: float | None
    lambda_max: float | None = None
    lambda_max_residual: float | None = None
    phi: float | None = None
    distance: float | None = None
    batch_size: int | None = None
    updates: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CompareResult(Result):
    """One row a checkpoint."""

    rows: tuple[CompareRow, ...]
    epsilon: float
    num_train: int
    num_test: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question about a file and its answer; `passed` is None where it could not be asked."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class InspectResult(Result):
    """What is in a file and whether it can be analysed."""

    checkpoint: Subject
    container: str
    num_tensors: int
    num_parameters: int
    dtypes: tuple[str, ...]
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    metadata: dict[str, Any]
    checks: tuple[Check, ...]
    analysable: bool


@dataclass(frozen=True, kw_only=True)
class TrainRow:
    """What one run ended with, or an average of its weights (`average` names its kind, and is None for the last weights)."""

    name: str
    mode: str
    preset: str | None
    average: str | None
    folder: str
    checkpoint: str
    updates: int
    epochs: float
    batch_size: int
    learning_rate: float
    seed: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    gap: float
    stopped_by: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainResult(Result):
    """What was trained, one row a run, and what to type next; `init_sha256` is None if runs began at different weights."""

    run: str
    init_sha256: str | None
    num_parameters: int
    rows: tuple[TrainRow, ...]
    next_commands: tuple[str, ...]
    device: str = field(default="cpu")


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """A recipe of a paper: what it sets, as one would type it, and where that comes from.

    `changes` is the same in short, where it extends another recipe.
    """

    name: str
    summary: str
    sets: str
    changes: str
    source: str
    networks: str
    note: str


@dataclass(frozen=True, kw_only=True)
class RecipesResult(Result):
    """Every recipe that `train` knows."""

    rows: tuple[RecipeRow, ...]


@dataclass(frozen=True, kw_only=True)
class ReparamResult(Result):
    """What was rescaled; `difference` is the largest change of an output, relative to the largest output."""

    checkpoint: Subject
    written: str
    layer: str
    into: str | None
    factor: float
    difference: float
    weight_norm_before: float
    weight_norm_after: float


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
