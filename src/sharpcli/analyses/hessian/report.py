"""Conversion of eigenpairs to the plain fields of a result: values with verdicts, advice, and stability thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sharpcli import progress
from sharpcli.curvature.preconditioner import Preconditioner
from sharpcli.curvature.stability import largest_stable
from sharpcli.linalg.ceiling import PROBABILITY
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.parameters import ParameterSpace
from sharpcli.results import Bound, Eigenvalue, Subject
from sharpcli.results import Preconditioner as PreconditionerFields
from sharpcli.settings import HessianSettings


def largest_of(pairs: Eigenpairs) -> float | None:
    """Return the largest eigenvalue if the search covers it, else None; for "LM" only if it is positive."""
    if pairs.wanted.which == "SA" or not pairs.wanted.count:
        return None
    top = max(pairs.values.tolist()[: pairs.wanted.count])
    return top if pairs.wanted.which == "LA" or top > 0 else None


def eigenvalue_fields(pairs: Eigenpairs | None) -> dict[str, Any]:
    """Return the results of the search as fields of the result."""
    if pairs is None:
        names = ("lambda_max", "index_probability", "ceiling", "floor", "noise_floor", "rounding", "orthogonality")
        return {**dict.fromkeys(names), "eigenvalues": (), "ended": "", "converged": True, "residual_history": ()}
    return {
        "eigenvalues": tuple(_listed(pairs)),
        "index_probability": pairs.index_probability,
        "lambda_max": largest_of(pairs),
        "ceiling": Bound(value=pairs.ceiling, probability=PROBABILITY),
        "floor": Bound(value=pairs.floor, probability=PROBABILITY),
        "noise_floor": pairs.trust.noise,
        "rounding": pairs.trust.rounding,
        "orthogonality": pairs.trust.orthogonality,
        "ended": pairs.ended,
        "converged": all(pairs.converged),
        "residual_history": pairs.history,
    }


def _listed(pairs: Eigenpairs) -> Iterator[Eigenvalue]:
    for place, (verdict, rank) in enumerate(zip(pairs.verdicts, pairs.known, strict=True)):
        refused, confirmed = verdict == "refused", pairs.confirmed[place]
        yield Eigenvalue(
            index=rank.index,
            value=float(pairs.values[place]),
            residual=float(pairs.residuals[place]),
            interval=None if refused else pairs.interval(place),
            verdict=verdict,
            verified=pairs.verified[place],
            index_interval=rank.interval if not refused and all(map(math.isfinite, rank.interval)) else None,
            index_confirmed=confirmed and not refused,
            index_range=None if refused else (rank.index, rank.index) if confirmed else (rank.first, rank.last),
        )


def advice(pairs: Eigenpairs, settings: HessianSettings) -> str:
    """Return what to do about eigenvalues that are not certified, or "" if there is nothing to do."""
    if all(pairs.converged) and len(pairs.verdicts) >= min(settings.topk + settings.bottomk, pairs.krylov.dimension):
        return ""
    if "refused" in pairs.verdicts:
        return f"Nothing is certified: {pairs.trust.refusal}."
    if "budget-limited" in pairs.verdicts:
        option = {"products": "--max-hvp", "seconds": "--max-minutes"}.get(pairs.ended, "--max-hvp or --memory")
        count = pairs.verdicts.count("budget-limited")
        resumable = " (with --state the search can be continued)" if not settings.state else ""
        spent = pairs.steps + pairs.confirmations
        return (
            f"Not certified: {count} of {len(pairs.verdicts)} eigenvalues, since the search ended after {spent} products. "
            f"Increase {option}{resumable}."
        )
    remedy = "Try --dtype float64." if settings.dtype == "float32" else "More products do not help."
    count = pairs.verdicts.count("noise-limited")
    return f"The noise of {settings.dtype} products limits the accuracy of {count} eigenvalues. {remedy}"


def stability(
    subject: Subject, pairs: Eigenpairs | None, settings: HessianSettings, adaptive: Preconditioner | None = None
) -> dict[str, Any]:
    """Return learning rates and stability thresholds such as 2/lr.

    Thresholds are None except for the full matrix: the Hessian for SGD, the preconditioned Hessian for the optimizer of P.

    Args:
        subject: The checkpoint.
        pairs: Eigenpairs, or None.
        settings: Settings of the analysis.
        adaptive: P and its optimizer, for the preconditioned Hessian.
    """
    if adaptive is not None:
        return _adaptive_stability(subject, pairs, settings, adaptive)
    applies = settings.operator == "hessian" and not settings.params and subject.optimizer == "sgd"
    rates = (subject.learning_rate, subject.last_learning_rate)
    peak, last = (largest_stable(rate) if rate and applies else None for rate in rates)
    momentum = subject.momentum or 0
    top = None if pairs is None else largest_of(pairs)
    return {
        "learning_rate": subject.learning_rate,
        "last_learning_rate": subject.last_learning_rate,
        "stability_threshold": peak,
        "last_stability_threshold": last,
        "momentum_threshold": None if peak is None else largest_stable(2 / peak, momentum, subject.momentum_rule or "nesterov"),
        "sharpness_ratio": None if peak is None or top is None else top / peak,
    }


def _adaptive_stability(
    subject: Subject, pairs: Eigenpairs | None, settings: HessianSettings, adaptive: Preconditioner
) -> dict[str, Any]:
    """Return learning rates and thresholds of an adaptive optimizer; a file without a plan knows its last rate only."""
    last_rate = subject.last_learning_rate or adaptive.rate
    rate = subject.learning_rate or last_rate
    applies = not settings.params
    peak, last = (adaptive.edge.at(each) if each and applies else None for each in (rate, last_rate))
    top = None if pairs is None else largest_of(pairs)
    return {
        "learning_rate": rate,
        "last_learning_rate": last_rate,
        "stability_threshold": peak,
        "last_stability_threshold": last,
        "momentum_threshold": None,  # Momentum is part of the threshold.
        "sharpness_ratio": None if peak is None or top is None else top / peak,
    }


def preconditioner(adaptive: Preconditioner, space: ParameterSpace, pairs: Eigenpairs | None) -> PreconditionerFields:
    """Return P as fields of the result, and warn about what the threshold does not include."""
    unmoved = adaptive.unmoved(space)
    if unmoved:
        progress.warn(
            f"{len(unmoved)} of {len(space.names)} parameters have no second moments, so the optimizer has never moved them; "
            f"the matrix is that of the others: {', '.join(unmoved[:3])}{' ...' if len(unmoved) > 3 else ''}."
        )
    if adaptive.uncertain_decay:
        progress.warn(
            "The optimizer's state does not say how weight decay acts, or it differs between parameters; the threshold is that "
            "without weight decay."
        )
    diagonal = adaptive.diagonal(space)
    moved = diagonal[diagonal.isfinite()]
    along = None
    if adaptive.weight_decay and pairs is not None and len(pairs.vectors):
        along = adaptive.decay_along(pairs.vectors[0], space)
    return PreconditionerFields(
        optimizer=adaptive.optimizer,
        updates=adaptive.step,
        learning_rate=adaptive.rate,
        formula=adaptive.formula,
        smallest=float(moved.min()),
        median=float(moved.median()),
        largest=float(moved.max()),
        coefficient=adaptive.edge.coefficient,
        offset=adaptive.edge.offset,
        weight_decay_shift=along,
    )
