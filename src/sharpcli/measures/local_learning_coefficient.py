"""Local learning coefficient: half the number of parameters that the loss determines around the weights, λ̂.

Reference: Lau et al., The Local Learning Coefficient, AISTATS 2025, arXiv 2308.12108 (the estimator λ̂, sampled by SGLD).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import NumericalError
from sharpcli.measures._langevin import Langevin, Walk
from sharpcli.measures._mixing import LEAST_DRAWS, mixing
from sharpcli.measures._reading import Meter, require_at_least, require_positive
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = "λ̂ = nβ (E f(w) - f(θ)), w with density ∝ exp(-nβ f(w) - ½ γ ‖w - θ‖²), n loss terms, β = 1/log n"
INVARIANT: dict[str, tuple[str, ...]] = {}
MISLEADS = (
    "It depends on γ: compare at equal γ and n. A quadratic has ½ Σ nβh / (nβh + γ), less than ½ P. Below 0, θ is not at a "
    "minimum. Too few steps make it too small, a large step_size too large."
)
COST = "chains × (burn_in + steps) gradients of a batch, chains × steps evaluations of it, and trial runs if step_size=0"
VARIANTS: tuple[dict[str, object], ...] = ({},)
_NAME = "local-learning-coefficient"
_LARGE = 0.25  # A correction for the step size above this share of the value is told.
_UNIT = 0.5  # λ of one parameter.


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    chains: int = 4,
    steps: int = 1500,
    burn_in: int = 400,
    gamma: float = 2000.0,
    beta: float = 0.0,
    step_size: float = 0.0,
    batch: int = 256,
) -> Reading:
    """Return λ̂, the mean over independent chains of SGLD with its standard error, corrected for the step size.

    A parameter that the loss determines counts ½, one that it ignores counts 0. The model is in eval mode; f(w) and f(θ) are
    compared on the same samples; n counts all samples, or tokens, and not those of a batch.

    Args:
        objective: f, the mean loss over n terms; λ̂ is that of the paper if the terms are negative log-likelihoods.
        theta: θ, shape (P,), near a minimum.
        seed: Seed of the noise and the batches.
        chains: Number of chains, at least 2; each starts at θ.
        steps: Draws of each chain, one a step, at least 20.
        burn_in: Steps of each chain before its first draw.
        gamma: γ > 0, the strength of the pull towards θ; in a direction that the loss ignores, w - θ has the deviation 1/√γ.
        beta: β > 0; 0 for 1/log n.
        step_size: ε > 0; 0 for a size whose correction is at most about 15 % of λ̂, which trial runs find.
        batch: Samples in a step, drawn anew in each; 0 for all samples, as always with the BatchNorm policy "batch".

    Returns:
        λ̂. If the chains disagree or drift, the status is "not mixed", and the estimate is among the details only. Failed if
        there is one loss term and no β, or if the loss is not finite on the way. Details: ends of the 95 % interval, R̂, the
        drift from the first half of the draws to the second, ε, the correction that was subtracted, and nβ.

    Raises:
        SettingsError: An option is out of range.
    """
    require_at_least(2, chains=chains)
    require_at_least(LEAST_DRAWS, steps=steps)
    require_at_least(0, burn_in=burn_in, beta=beta, step_size=step_size, batch=batch)
    require_positive(gamma=gamma)
    options = {
        "chains": chains, "steps": steps, "burn_in": burn_in, "gamma": gamma, "beta": beta, "step_size": step_size,
        "batch": batch,
    }  # fmt: skip
    meter = Meter(_NAME, objective, theta, options, unit="λ")
    terms = objective.num_terms
    if not beta and terms < 2:
        return meter.reading(None, note="β is 1/log n, which needs two loss terms or more: give beta.")
    inverse = terms * (beta or 1 / math.log(terms))
    sampler = Langevin(objective, theta, inverse, gamma, 0 if objective.bn == "batch" else batch, seed)
    progress.say(
        f"{_NAME}: {chains * (burn_in + steps):,} gradients of {sampler.in_batch:,} samples"
        + ("." if step_size else ", after trial runs that find the step size.")
    )
    note, working = "", meter

    def sample() -> tuple[float, list[Walk]]:
        base, total = sampler.base(), chains * (burn_in + steps)
        if step_size:
            size = step_size
        else:
            with progress.task("step size", units="gradients") as shown:
                size = sampler.step_size(burn_in, base, shown)
        with progress.task("chains", total=total, units="gradients") as shown:
            return size, [sampler.walk(size, burn_in, steps, base, chain, shown) for chain in range(chains)]

    try:
        size, walks = sample()
        rise = fmean(float(walk.rises.mean()) for walk in walks) / inverse
        if not meter.heights.is_clear(rise, meter.heights.at_weights) and theta.dtype != torch.float64:
            note, working = "The rise is close to the rounding error in float32: sampled in float64.", meter.widened()
            sampler = sampler.widened(working.objective, working.theta)
            size, walks = sample()
    except NumericalError as error:
        return replace(meter, passes=sampler.passes).reading(None, note=f"A chain has failed. {error.sentences()}")
    meter.passes = sampler.passes
    return _reading(meter, sampler, size, walks, note, inverse * 2 * working.heights.at_weights.of_search)


def _reading(meter: Meter, sampler: Langevin, size: float, walks: Sequence[Walk], note: str, rounding: float) -> Reading:
    """Return the reading of finished chains.

    Args:
        meter: The meter with its counts.
        sampler: The sampler of the chains.
        size: ε.
        walks: The chains.
        note: What is known already.
        rounding: The possible rounding error of λ̂.
    """
    found = mixing([walk.values for walk in walks])
    correction = fmean(float(walk.corrections.mean()) for walk in walks)
    notes = [note] if note else []
    lost = abs(found.mean) <= rounding
    if lost:
        notes.append(f"λ̂ is not larger than the rounding error, {rounding:.1e}: its sign is not known.")
    elif found.mean + found.upper - found.lower < 0:
        notes.append("λ̂ is below 0: the chains found a lower loss than that of the weights, which are not at a minimum.")
    if abs(correction) > _LARGE * max(abs(found.mean), _UNIT):
        notes.append(f"The correction for the step size is {correction:.3g}: a smaller step_size needs a smaller one.")
    details = {
        "lower": found.lower,
        "upper": found.upper,
        "r_hat": found.r_hat if math.isfinite(found.r_hat) else None,
        "drift": found.drift,
        "drift_standard_error": found.drift_error,
        "step_size": size,
        "correction": correction,
        "n_beta": sampler.inverse,
        "curvature_that_counts_half": sampler.gamma / sampler.inverse,
        "gradients": float(sampler.gradients[0]),
    }
    if found.why_not and not lost:
        notes.append(
            f"The chains have not mixed: {found.why_not}. Their mean {found.mean:.4g} is not trusted: use more burn_in and "
            "steps, or a larger gamma."
        )
        failed = meter.reading(None, note=" ".join(notes))
        return replace(failed, status="not mixed", details={"mean_of_chains": found.mean, **details})
    error = math.hypot(found.standard_error, rounding)
    return replace(meter.reading(found.mean, standard_error=error, note=" ".join(notes)), details=details)
