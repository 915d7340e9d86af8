"""Track the critical sharpness of a run along the next update of its optimizer, without second derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpcli.checkpoints import OptimizerState
from sharpcli.curvature.critical import critical_step
from sharpcli.curvature.next_update import next_update
from sharpcli.linalg.reductions import dot
from sharpcli.objective import Objective
from sharpcli.training.plan import TrainingPlan

_TOLERANCE = 2**-4  # Of the paper: two exponential and four binary steps from a good start.
_ROUNDING = 8  # Rounding of a mean loss, in units of its last digit.


@dataclass(frozen=True, eq=False)
class CriticalTracker:
    """Tracks λ_c = 2/η_c, η_c the rate at which the next update no longer lowers the training loss (Kalra et al. 2026).

    The direction is that of the optimizer with its present state and the gradient over all training data. A search starts at
    the step of the previous one.

    Attributes:
        objective: The training loss, as `tracking.loss_of_training` returns it.
        plan: Gives the learning rate.
    """

    objective: Objective
    plan: TrainingPlan

    def measure(
        self, update: int, theta: Tensor, optimizer: OptimizerState, known: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """Return one line of critical.jsonl; a `critical` of None has a `note` that says why.

        `ratio` is lr/η_c: above 1 the next update raises the training loss.

        Args:
            update: Number of updates so far.
            theta: The weights, shape (P,).
            optimizer: The state of the optimizer.
            known: The lines so far; the search starts at the last critical step in them.
        """
        objective, rate = self.objective, self.plan.learning_rate(update)
        base, gradient = objective.loss_and_gradient(theta)
        space = objective.space
        along = next_update(optimizer, theta, gradient, space, "the run", space.names).to(theta)
        slope = dot(gradient.to(along), along)
        start = next((line["critical_step"] for line in reversed(known) if line.get("critical_step")), None)
        line: dict[str, Any] = {"step": update, "critical": None, "low": None, "high": None, "critical_step": None, "lr": rate}
        if not slope > 0:
            return {**line, "ratio": None, "evaluations": 0, "note": "The next update does not point downhill."}
        found = critical_step(
            lambda step: objective.loss(theta - step * along), base, start or abs(base) / slope or 1.0, _TOLERANCE
        )
        line |= {"ratio": None, "evaluations": found.evaluations}
        interval = found.interval(slope, _ROUNDING * torch.finfo(theta.dtype).eps * abs(base)) if found.is_found else None
        if interval is None:
            why = (
                "The fall of the loss is below its rounding error." if found.is_found else "The loss does not cross its value."
            )
            return {**line, "note": why}
        low, high = interval
        return {
            **line,
            "critical": found.sharpness,
            "low": low,
            "high": high,
            "critical_step": found.middle,
            "ratio": rate / found.middle,
        }
