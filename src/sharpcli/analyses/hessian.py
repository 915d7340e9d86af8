"""The largest eigenvalues of a checkpoint's training-loss Hessian."""

from __future__ import annotations

from pathlib import Path

import torch

from sharpcli.analyses._account import account
from sharpcli.analyses._opening import open_checkpoint
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.errors import SettingsError
from sharpcli.linalg.lanczos import Eigenpairs, top_eigenpairs
from sharpcli.linalg.reductions import norm
from sharpcli.objective import Objective
from sharpcli.results import Eigenvalue, HessianResult, Subject
from sharpcli.settings import HessianSettings, chosen

_ROUNDING = 10  # Units of rounding, in parts of ‖H‖, by which a product may be off; 1 to 6 were seen in float32.


def hessian(checkpoint: str | Path, settings: HessianSettings | None = None, **options: object) -> HessianResult:
    """Find the largest (algebraic) eigenvalues of the Hessian of the mean loss, with measured residuals.

    Args:
        checkpoint: File, or run folder.
        settings: What to do.
        **options: Its fields, in place of settings, such as `hessian("a.pt", topk=20)`.

    Returns:
        Eigenvalues, largest first. Each has a residual ‖Hv - value·v‖ measured with one product of
        its own: an exact eigenvalue lies within it and the rounding of products. Not reaching the
        tolerance is told in `converged` and `advice`, not raised.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`.

    References:
        Pearlmutter 1994 (products); Golub and Van Loan, section 10.1 (Lanczos).
    """
    settings = chosen(HessianSettings, settings, options)
    with account(settings) as book:
        opened = open_checkpoint(checkpoint, settings)
        objective = opened.objective()
        theta = objective.parameters()
        evaluation = objective.evaluate(theta)
        opened.check_loss(evaluation, settings.split)
        slope = norm(objective.gradient(theta))
        pairs = largest(objective, settings)
        subject = opened.subject()
        threshold = _stability_threshold(subject, subject.learning_rate)
        top = float(pairs.values[0])
        rounding = _ROUNDING * torch.finfo(opened.runtime.dtype).eps * pairs.scale
        return HessianResult(
            checkpoint=subject,
            conditions=opened.conditions(objective, settings.split),
            loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            gradient_norm=slope,
            eigenvalues=_listed(pairs, rounding),
            lambda_max=top,
            rounding=rounding,
            products=pairs.steps + pairs.verifications,
            lanczos_products=pairs.steps,
            verification_products=pairs.verifications,
            converged=all(pairs.converged),
            advice=_advice(pairs, settings),
            learning_rate=subject.learning_rate,
            last_learning_rate=subject.last_learning_rate,
            stability_threshold=threshold,
            last_stability_threshold=_stability_threshold(subject, subject.last_learning_rate),
            momentum_threshold=None if threshold is None else threshold * _nesterov(subject.momentum or 0),
            sharpness_ratio=None if threshold is None else top / threshold,
            residual_history=pairs.history,
            **book.entries(opened.runtime),
        )


def largest(objective: Objective, settings: HessianSettings) -> Eigenpairs:
    """Run Lanczos on the objective's Hessian at its own weights.

    Raises:
        SettingsError: More eigenvalues are asked for than there are parameters.
    """
    dimension = objective.space.dimension
    if settings.topk > dimension:
        raise SettingsError(
            f"--topk {settings.topk} is more than the {dimension} parameters of the model.", f"Ask for at most {dimension}."
        )
    return top_eigenpairs(
        HessianOperator(objective, objective.parameters()),
        count=settings.topk,
        tolerance=settings.tol,
        max_products=settings.most_products(),
        seed=settings.seed,
    )


def _nesterov(momentum: float) -> float:
    """Return the factor on 2/lr at which descent with Nesterov momentum β becomes unstable on a quadratic: (1+β)/(1+2β)."""
    return (1 + momentum) / (1 + 2 * momentum)


def _listed(pairs: Eigenpairs, rounding: float) -> tuple[Eigenvalue, ...]:
    rows = zip(pairs.values.tolist(), pairs.residuals.tolist(), pairs.converged, strict=True)
    return tuple(
        Eigenvalue(
            index=index,
            value=value,
            residual=residual,
            lower=value - residual - rounding,
            upper=value + residual + rounding,
            converged=converged,
        )
        for index, (value, residual, converged) in enumerate(rows, start=1)
    )


def _advice(pairs: Eigenpairs, settings: HessianSettings) -> str:
    missing = sum(not good for good in pairs.converged)
    if not missing and len(pairs.converged) == settings.topk:
        return ""
    if pairs.steps >= settings.most_products():
        return f"{missing} residuals are above tolerance after {pairs.steps} products: raise --max-hvp."
    return f"{missing} measured residuals are above tolerance, at the noise of {settings.dtype}: try --dtype float64."


def _stability_threshold(subject: Subject, rate: float | None) -> float | None:
    """Return 2/lr of plain gradient descent; for an adaptive optimizer or a rate of zero it means nothing."""
    return 2 / rate if rate and subject.optimizer == "sgd" else None
