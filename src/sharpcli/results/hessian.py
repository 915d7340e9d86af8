"""Results of `hessian`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sharpcli.estimate import Estimate
from sharpcli.results.base import Conditions, Result, Subject


@dataclass(frozen=True, kw_only=True)
class Eigenvalue:
    """One eigenvalue: an exact eigenvalue lies in the `interval`, at least value ± (residual + noise floor + rounding).

    `index` is 1 for the largest (with --which LM: largest in magnitude) and -1 for the smallest. `residual` is ‖Hv - value·v‖
    for ‖v‖ = 1, from stored products, or from a new product if `verified`. The `verdict` is certified, noise-limited,
    budget-limited or refused; a refused eigenvalue has no interval.

    If `index_confirmed`, the eigenvalue of exactly this index lies in the `interval`, with the `index_probability` of the
    result over the random vectors; the interval is widened for this if necessary. Otherwise the eigenvalues in the interval
    have an index within the `index_range`; its end towards the middle of the spectrum holds with that probability, and is None
    if it could not be bounded. The `index_interval` contains the eigenvalue of the index with the same probability; it is None
    if there is no such bound, also if magnitude decides and the sign is not known.
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
    """A bound on all eigenvalues, which holds with this probability over the random start."""

    value: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class DataBar:
    """How much the first eigenvalue depends on the samples.

    `standard_error` is that of vᵀHv as a mean over `groups` random groups of the analysed samples, at the fixed top vector
    v. With --samples, `held_out` is vᵀHv on other samples of the split (biased low, since v was computed on the analysed
    ones), and the in-sample value is biased high. The `bracket` is for the eigenvalue over all samples of the split: it
    contains both values, with a margin of at most two standard errors at each end.
    """

    standard_error: float
    groups: int
    held_out: float | None = None
    held_out_standard_error: float | None = None
    held_out_samples: int = 0
    bracket: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Trace, Frobenius norm, and two measures of rank.

    `effective_rank` is tr(H)² / ‖H‖_F², `stable_rank` ‖H‖_F² / λ², with λ the listed eigenvalue of largest magnitude.
    """

    trace: Estimate
    frobenius_norm: Estimate
    effective_rank: float
    stable_rank: float | None
    method: str
    products: int


@dataclass(frozen=True, kw_only=True)
class Count:
    """The number of eigenvalues above a threshold."""

    threshold: float
    count: Estimate


@dataclass(frozen=True, kw_only=True)
class Density:
    """The spectral density: quadrature nodes with their weights, which sum to one, and curves with 95 % bands.

    The bands cover the randomness of the probes, not the resolution of their nodes; the intervals of `counts` cover both.
    `grid` are eigenvalues; `cdf` is the fraction of eigenvalues up to each of them; `density` is smoothed by a Gaussian of
    standard deviation `width` on the scale asinh(λ / `linear_width`), so that it integrates to one over that scale.
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
    """The diagonal block of one layer, or of another part of the parameters: its largest eigenvalue and its trace.

    With a density, `effective_rank` is tr² / ‖·‖_F² of the block; it is None without a density or for a block that is zero.

    `share` is the part of the squared norm of the first eigenvector of the full matrix in this layer; shares sum to one.
    `kind` is the class of the layer, such as Linear; "" if the parameters belong to no module.
    """

    name: str
    num_parameters: int
    lambda_max: float
    residual: float
    verdict: str
    trace: Estimate
    share: float
    products: int
    kind: str = ""
    effective_rank: Estimate | None = None
    density: Density | None = None

    @property
    def label(self) -> str:
        """The name, with the class of the layer if the name is only a number, as in "3 (Linear)"."""
        wordless = not any(letter.isalpha() for letter in self.name)
        return f"{self.name} ({self.kind})" if wordless and self.kind else self.name


@dataclass(frozen=True, kw_only=True)
class BlockDistances:
    """Jensen-Shannon distances between the densities of blocks: 0 for equal ones, 1 for ones without a common eigenvalue.

    All densities are smoothed by a Gaussian of standard deviation `width` on one scale asinh(λ / `linear_width`). `halves` are
    the distances between two halves of the probes of each block, which chance alone makes; 0 for an exact density. `mean` is
    over all pairs of blocks.
    """

    names: tuple[str, ...]
    distances: tuple[tuple[float, ...], ...]
    halves: tuple[float, ...]
    mean: float
    mean_of_halves: float
    linear_width: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The first eigenvalue as vᵀHv = vᵀGv + vᵀ(H - G)v: the part of the Gauss-Newton matrix G, and the remainder (`rest`)."""

    hessian: float
    ggn: float
    rest: float


@dataclass(frozen=True, kw_only=True)
class Preconditioner:
    """The diagonal P of an adaptive optimizer after `updates` updates, and the threshold coefficient/lr - offset.

    `smallest`, `median` and `largest` are of the entries of P. `coefficient` is 38 for Adam with β1 = 0.9; `offset` comes from
    decoupled weight decay. `weight_decay_shift` is what an L2 penalty λ adds at the first eigenvector v, λ vᵀP⁻¹v; it is None
    without such a penalty.
    """

    optimizer: str
    updates: int
    learning_rate: float
    formula: str
    smallest: float
    median: float
    largest: float
    coefficient: float
    offset: float
    weight_decay_shift: float | None


@dataclass(frozen=True, kw_only=True, repr=False)
class HessianResult(Result):
    """Eigenvalues of the Hessian, or of the matrix that `operator` names, of the mean loss, and further estimates.

    `noise_floor` is the largest observed error of a product: its difference from a repetition, from a combination of earlier
    products, or from symmetry, plus the error that the operator itself reports. `rounding` is the allowance for errors that
    repeat in every product: the larger of 10 ε ‖H‖ and twice the error measured against float64. Both are part of every
    interval.

    `stability_threshold` is 2/lr at the run's peak learning rate, and `sharpness_ratio` is λmax divided by it.
    `last_stability_threshold` is 2/lr at the learning rate of the last update; it grows without bound if the rate decays to
    0. `momentum_threshold` is the limit with the run's momentum β: (2 + 2β) / ((1 + 2β) lr) for Nesterov's rule, which is
    below 2/lr, and (2 + 2β) / lr for Polyak's. They are None except for the Hessian over all parameters of a run by SGD with
    a known learning rate above 0. For the preconditioned Hessian of all parameters, the thresholds are those of its optimizer,
    with its momentum, see `Preconditioner`; `momentum_threshold` is then None.
    """

    _headline = ("checkpoint", "lambda_max", "eigenvalues", "converged")
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
    block_distances: BlockDistances | None
    dead_parameters: dict[str, str]
    learning_rate: float | None
    last_learning_rate: float | None
    stability_threshold: float | None
    last_stability_threshold: float | None
    momentum_threshold: float | None
    sharpness_ratio: float | None
    preconditioner: Preconditioner | None
    residual_history: tuple[tuple[int, float], ...]

    def records(self) -> list[dict[str, Any]]:
        """Return one row per eigenvalue, with the ends of its interval."""
        rows = []
        for each in self.eigenvalues:
            lower, upper = each.interval or (None, None)
            about = {"verdict": each.verdict, "verified": each.verified, "index_confirmed": each.index_confirmed}
            ends = {"residual": each.residual, "lower": lower, "upper": upper}
            rows.append({"index": each.index, "value": each.value, **ends, **about})
        return rows
