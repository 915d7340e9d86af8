"""What `hessian` answers."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.estimate import Estimate
from sharpcli.results.base import Conditions, Result, Subject


@dataclass(frozen=True, kw_only=True)
class Eigenvalue:
    """One eigenvalue: some exact eigenvalue lies in the `interval`, at least value ± (residual + noise floor + rounding).

    `index` is 1 for the largest (with --which LM: largest in magnitude) and -1 for the smallest. `residual` is ‖Hv - value·v‖
    of the products that were made, for ‖v‖ = 1; where `verified`, of a fresh product. The `verdict` is certified,
    noise-limited, budget-limited or refused; a refused one has no interval.

    Where `index_confirmed`, the eigenvalue of that very index lies in the `interval`, with the result's `index_probability`
    over the random vectors; the interval is then as wide as that takes. Where not, eigenvalues in the interval have an index
    within the `index_range`, its end towards the middle of the spectrum with that probability; it is None where it could not be
    bounded. The range is index to index where it is confirmed. Wherever the `index_interval` is not None, the eigenvalue of
    the index lies in it, again with that probability: None also where magnitude decides and even its sign is not told.
    """

    index: int
    value: float
    residual: float
    interval: tuple[float, float] | None
    verdict: str
    verified: bool
    index_interval: tuple[float, float] | None
    index_confirmed: bool
    index_range: tuple[int, int | None] | None


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A number that no eigenvalue is beyond, with the stated probability over the random start."""

    value: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class DataBar:
    """How far the first eigenvalue depends on which samples it was measured on.

    `standard_error` is that of vᵀHv as a mean over `groups` random groups of the analysed samples, at the fixed top vector
    v. With --samples, `held_out` is vᵀHv on samples of the split that were left out (biased low: v was fitted elsewhere), the
    in-sample value is biased high, and the `bracket` between them, two standard errors wider at each end, is for the
    eigenvalue over the whole split.
    """

    standard_error: float
    groups: int
    held_out: float | None = None
    held_out_standard_error: float | None = None
    held_out_samples: int = 0
    bracket: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Trace, Frobenius norm, and two ways to count the directions that matter.

    `effective_rank` is tr(H)² / ‖H‖_F², `stable_rank` ‖H‖_F² / λ², with λ the eigenvalue of largest magnitude that was found.
    """

    trace: Estimate
    frobenius_norm: Estimate
    effective_rank: float
    stable_rank: float | None
    method: str
    products: int


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many of the P eigenvalues are above a threshold."""

    threshold: float
    count: Estimate


@dataclass(frozen=True, kw_only=True)
class Density:
    """The spectral density: quadrature nodes with their weights, which sum to one, and curves with 95 % bands.

    The bands are over the probes: they tell the chance in them, not the resolution of their nodes, which `counts` allow for.
    `grid` are eigenvalues; `cdf` is the fraction of eigenvalues up to each of them; `density` is blurred by a Gaussian as wide
    as `width` on the scale asinh(λ / `linear_width`), so that it integrates to one over that scale.
    """

    nodes: tuple[float, ...]
    weights: tuple[float, ...]
    probes: int
    steps: int
    products: int
    linear_width: float
    width: float
    grid: tuple[float, ...]
    cdf: tuple[float, ...]
    cdf_lower: tuple[float, ...]
    cdf_upper: tuple[float, ...]
    density: tuple[float, ...]
    density_lower: tuple[float, ...]
    density_upper: tuple[float, ...]
    counts: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The diagonal block of one layer: its own largest eigenvalue and trace, and its part in the whole's top eigenvector.

    `share` is the squared length of the top eigenvector's part in this layer; shares sum to one.
    """

    name: str
    num_parameters: int
    lambda_max: float
    residual: float
    verdict: str
    trace: Estimate
    share: float
    products: int


@dataclass(frozen=True, kw_only=True)
class Parts:
    """λmax as vᵀHv = vᵀGv + vᵀ(H - G)v: Gauss-Newton matrix G and the rest, which the residuals of the fit weigh."""

    hessian: float
    ggn: float
    rest: float


@dataclass(frozen=True, kw_only=True)
class HessianResult(Result):
    """Eigenvalues of the Hessian (or of what `operator` names) of the mean loss, and what else was asked for.

    `noise_floor` is the largest disagreement between a product and what earlier products say it should be, `rounding` the
    allowance for what repeats and so does not show: 10 ε ‖H‖, or twice what some samples in float64 show. Both are part of
    every interval.
    `stability_threshold` is 2/lr at the run's peak learning rate, `sharpness_ratio` is λmax over
    it; `last_stability_threshold` is 2/lr at the rate of the last update, which a decaying schedule
    drives to infinity. `momentum_threshold` is the limit with the run's Nesterov momentum β,
    (2 + 2β) / ((1 + 2β) lr), which lies below 2/lr. None where a limit means nothing: unknown or zero rate, or Adam.
    """

    checkpoint: Subject
    conditions: Conditions
    operator: str
    loss: float
    accuracy: float | None
    gradient_norm: float
    eigenvalues: tuple[Eigenvalue, ...]
    lambda_max: float | None
    index_probability: float | None
    ceiling: Bound | None
    floor: Bound | None
    noise_floor: float | None
    rounding: float | None
    orthogonality: float | None
    data_bar: DataBar | None
    products: int
    products_by_use: dict[str, int]
    ended: str
    converged: bool
    advice: str
    moments: Moments | None
    density: Density | None
    parts: Parts | None
    layers: tuple[Layer, ...]
    dead_parameters: dict[str, str]
    learning_rate: float | None
    last_learning_rate: float | None
    stability_threshold: float | None
    last_stability_threshold: float | None
    momentum_threshold: float | None
    sharpness_ratio: float | None
    residual_history: tuple[tuple[int, float], ...]
