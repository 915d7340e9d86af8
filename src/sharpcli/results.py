"""What the commands answer: plain numbers in frozen dataclasses, versioned JSON. Standard library only."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "sharpcli/1"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Which weights a result is about, and what is known of how they were made."""

    path: str
    sha256: str
    label: str
    model: str | None = None
    data: str | None = None
    data_fingerprint: str | None = None
    mode: str | None = None
    step: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    seed: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    last_learning_rate: float | None = None
    momentum: float | None = None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what conditions the numbers of a result hold."""

    split: str
    num_samples: int
    num_parameters: int
    loss_function: str
    device: str
    dtype: str
    batch_size: int
    batch_norm: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """The root of every answer: settings and provenance travel with the numbers."""

    settings: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer alone as plain JSON values; a number that is not finite becomes None."""
        answer = plain(asdict(self))
        for key in ("settings", "provenance", "warnings"):
            del answer[key]
        return dict(answer)


@dataclass(frozen=True, kw_only=True)
class Eigenvalue:
    """One eigenvalue: some exact eigenvalue lies in [lower, upper] = value ± (residual + rounding)."""

    index: int
    value: float
    residual: float
    lower: float
    upper: float
    converged: bool


@dataclass(frozen=True, kw_only=True)
class HessianResult(Result):
    """The largest eigenvalues of the Hessian of the mean loss.

    `rounding` is what the floating-point type adds to each interval: 10 ε ‖H‖, since a product in float32 is
    itself that far from exact, alike each time, so that no residual shows it.
    `stability_threshold` is 2/lr at the run's peak learning rate, `sharpness_ratio` is λmax over
    it; `last_stability_threshold` is 2/lr at the rate of the last update, which a decaying schedule
    drives to infinity. `momentum_threshold` is the limit with the run's Nesterov momentum β,
    (2 + 2β) / ((1 + 2β) lr), which lies below 2/lr. None where a limit means nothing: unknown or zero rate, or Adam.
    """

    checkpoint: Subject
    conditions: Conditions
    loss: float
    accuracy: float | None
    gradient_norm: float
    eigenvalues: tuple[Eigenvalue, ...]
    lambda_max: float
    rounding: float
    products: int
    lanczos_products: int
    verification_products: int
    converged: bool
    advice: str
    learning_rate: float | None
    last_learning_rate: float | None
    stability_threshold: float | None
    last_stability_threshold: float | None
    momentum_threshold: float | None
    sharpness_ratio: float | None
    residual_history: tuple[tuple[int, float], ...]


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
class SharpnessResult(Result):
    """Keskar's ε-sharpness for each box size and subspace."""

    checkpoint: Subject
    conditions: Conditions
    loss: float
    accuracy: float | None
    gradient_norm: float
    weight_norm: float
    measurements: tuple[Measurement, ...]


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
    """What one mode's run ended with."""

    mode: str
    folder: str
    checkpoint: str
    updates: int
    epochs: float
    batch_size: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    gap: float
    stopped_by: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainResult(Result):
    """What was trained, one row a mode, and what to type next."""

    run: str
    init_sha256: str
    num_parameters: int
    rows: tuple[TrainRow, ...]
    next_commands: tuple[str, ...]
    device: str = field(default="cpu")


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: tuples as lists, a number that is not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def document(command: str, results: list[Result], plural: str) -> str:
    """Return one JSON document for the answer of a command.

    With one result, "result" is that result; with several it is {plural: [...]}. Each keeps its
    own place; settings, versions and warnings are beside it.
    """
    answers = [result.to_dict() for result in results]
    return json.dumps(
        {
            "schema": SCHEMA,
            "command": command,
            "status": "ok",
            "settings": plain(results[0].settings),
            "provenance": plain(results[0].provenance),
            "warnings": [warning for result in results for warning in result.warnings],
            "result": answers[0] if len(answers) == 1 else {plural: answers},
        },
        indent=2,
        allow_nan=False,
    )
