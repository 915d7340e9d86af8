"""The mean loss at several sets of weights in one pass over the data, if this is faster than one pass for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap

from sharpcli.chunks import Chunk
from sharpcli.losses import Evaluation, moments
from sharpcli.objective import Objective

# For small dense nets, ten sets at a time are 1.1 to 1.3 times as fast; larger nets and convolutions are slower
# (docs/performance.md). The rule is fixed, not measured, so that a result does not depend on the load of the machine.
_AT_ONCE = 10
_MOST_PARAMETERS = 50_000
# Layers that are known to give the same results for several weights at once; other layers may not.
_KNOWN = {
    nn.Sequential, nn.Identity, nn.Flatten, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU,
    nn.Dropout,
}  # fmt: skip


def num_together(objective: Objective) -> int:
    """Return how many sets of weights of the model should be evaluated in one pass."""
    known = all(type(module) in _KNOWN for module in objective.model.modules()) and not objective.loss_is_code
    small = known and objective.space.dimension <= _MOST_PARAMETERS
    return _AT_ONCE if small else 1


def evaluate_together(
    objective: Objective, thetas: Sequence[Tensor], buffers: Sequence[Mapping[str, Tensor]]
) -> list[Evaluation]:
    """Return the result of `Objective.evaluate` for each of several sets of weights, equal up to rounding.

    Args:
        objective: The mean loss.
        thetas: One or more sets of weights, each of shape (P,).
        buffers: For each set, BatchNorm statistics to use instead of those of the model, with the same names in every set.
    """
    if len(thetas) == 1:
        return [objective.evaluate(thetas[0], buffers[0])]
    weights = [{**objective.space.split(theta), **statistics} for theta, statistics in zip(thetas, buffers, strict=True)]
    stacked = {name: torch.stack([one[name] for one in weights]) for name in weights[0]}

    def summand(chunk: Chunk) -> Tensor:
        def of_one(state: dict[str, Tensor]) -> Tensor:
            return moments(objective.sample_sums(state, chunk).to(objective.runtime.accumulator))

        sums: Tensor = vmap(of_one)(stacked)
        return sums

    with torch.no_grad():
        means = objective.mean_over_data(summand, torch.stack(list(thetas)))
    return [objective.criterion.evaluation(one, objective.targets, objective.total_weight) for one in means]
