"""m-sharpness: worst-case sharpness of the loss over m samples, averaged over batches, as SAM sees it while it trains.

Reference: Foret et al., ICLR 2021, section 4.1; Andriushchenko et al., ICML 2023 (m = 128).
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.linalg.reductions import accumulator_of
from sharpcli.measures._ascent import Ball, Top, climb, num_steps
from sharpcli.measures._reading import BATCH_NORM, RELU_PAIRS, Meter, require_at_least, require_positive
from sharpcli.measures._settling import Settled, settle
from sharpcli.objective import Objective
from sharpcli.results import Reading
from sharpcli.runtime import generator

DEFINITION = "mean over batches B of m samples of max f_B(θ + δ) - f_B(θ), ‖δ‖₂ ≤ ρ"
INVARIANT = {"adaptive=true": (RELU_PAIRS, BATCH_NORM)}
MISLEADS = "It increases as m decreases, for any weights: compare at the same m. A lower bound in each batch."
COST = "(steps + 12) gradients of m samples per batch, and 2 evaluations in float64"
VARIANTS: tuple[dict[str, object], ...] = ({}, {"adaptive": True, "rho": 0.5})


def read(
    objective: Objective,
    theta: Tensor,
    *,
    seed: int = 0,
    m: int = 128,
    rho: float = 0.05,
    adaptive: bool = False,
    batches: int = 8,
    steps: int = 10,
) -> Reading:
    """Return the mean over batches, drawn once without replacement, with its standard error.

    Args:
        objective: f, the mean loss over N samples.
        theta: Shape (P,).
        seed: Seed of batches and starts.
        m: Samples per batch; at most N.
        rho: Radius ρ ≥ 0.
        adaptive: Whether the ball is scaled by |θ|.
        batches: Largest number of batches; all batches if there are fewer.
        steps: Steps of each ascent, after twelve steps that choose between opposite sides.

    Raises:
        SettingsError: A size is out of range.
    """
    require_at_least(0, rho=rho)
    require_positive(m=m, batches=batches, steps=steps)
    meter = Meter(
        "m-sharpness", objective, theta, {"m": m, "rho": rho, "adaptive": adaptive, "batches": batches, "steps": steps}
    )
    if rho == 0:
        return meter.reading(0.0, bound="lower")
    order = torch.randperm(objective.num_samples, generator=generator(seed, streams.BATCH_DIVISION)).to(
        objective.targets.device
    )
    chosen = [part for part in torch.split(order, m) if len(part) == min(m, objective.num_samples)][:batches]
    maxima: list[Settled] = []
    with progress.task("m-sharpness", total=len(chosen) * num_steps(steps, 1), units="gradients") as shown:
        for number, part in enumerate(chosen):
            if not objective.criterion.total_weight(objective.targets[part]):
                continue  # All targets are ignored: there is no loss.
            own = Meter("", objective.among(part), theta, {}, known=meter.heights.among(part))

            def search(meter: Meter, number: int = number) -> tuple[Ball, list[Top]]:
                ball = Ball(rho, 2.0, meter.theta.abs().to(accumulator_of(meter.theta)) if adaptive else None)
                return ball, climb(meter, ball, steps=steps, restarts=1, seeds=(seed, number), shown=shown)

            maxima.append(settle(own, search))
            meter.passes += own.passes
    solid = [one.rise for one in maxima if one.rise is not None]
    counted, failed = float(len(maxima)), len(maxima) - len(solid)
    if failed:
        notes = [one.note for one in maxima if one.rise is None]
        return meter.reading(None, bound="lower", note=notes[0], batches=counted, failed=float(failed))
    note = max((one.note for one in maxima), key=len)
    error = statistics.stdev(solid) / len(solid) ** 0.5 if len(solid) > 1 else None
    return meter.reading(statistics.fmean(solid), standard_error=error, bound="lower", note=note, batches=counted)
