"""What an optimizer of torch says about its steps: the learning rate, and for SGD the threshold of stability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sharpcli.curvature.stability import largest_stable


@dataclass(eq=False)
class Rates:
    """The learning rate of an optimizer at the time of a call; None if there is no optimizer, or if its groups differ.

    Attributes:
        optimizer: The optimizer, whose options a scheduler may change.
        peak: The largest learning rate so far.
    """

    optimizer: torch.optim.Optimizer | None
    peak: float = 0.0

    def now(self) -> float | None:
        """Return the learning rate of all parameters."""
        rate = self._of_all("lr")
        if rate is None:
            return None
        self.peak = max(self.peak, float(rate))
        return float(rate)

    def threshold(self) -> float | None:
        """Return the largest λmax at which full-batch SGD with this rate is stable; None for other optimizers.

        That of adaptive optimizers is about another matrix, see `curvature.preconditioner`.

        It is also None with dampening, and for a rate of 0. Weight decay is subtracted; see `largest_stable`.
        """
        rate, plan, decay = self.now(), self.plan(), self._of_all("weight_decay")
        if not rate or decay is None or "momentum_rule" not in plan:
            return None
        return largest_stable(rate, plan["momentum"], plan["momentum_rule"]) - float(decay)

    def plan(self) -> dict[str, Any]:
        """Return what is known of the optimizer, under the names of a training plan; "lr" is the largest rate so far."""
        if self.now() is None:
            return {}
        name = type(self.optimizer).__name__.lower()
        if name != "sgd":
            return {"optimizer": name, "lr": self.peak}
        momentum, nesterov, dampening = (self._of_all(option) for option in ("momentum", "nesterov", "dampening"))
        if momentum is None or nesterov is None or dampening != 0:
            return {"optimizer": "sgd with dampening or several momenta", "lr": self.peak}
        rule = "nesterov" if nesterov else "polyak"
        return {"optimizer": "sgd", "lr": self.peak, "momentum": float(momentum), "momentum_rule": rule}

    def _of_all(self, name: str) -> Any:
        """Return the value of an option if it is the same in all groups."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        values = [group.get(name) for group in groups]
        return values[0] if values and all(value == values[0] for value in values) else None
