"""The mean loss at several sets of weights in one pass over the data, where that is faster than one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap

from sharpcli.chunks import Chunk
from sharpcli.losses import Evaluation, moments
from sharpcli.objective import Objective

# Small dense nets are 1.1 to 1.3 times as fast ten at a time; larger ones, and convolutions, slower (docs/performance.md).
# The rule is fixed, not measured: an answer must not depend on how busy the machine was.
_AT_ONCE = 10
_MOST_PARAMETERS = 50_000
# Layers known to do the same for many weights at once; a forward pass of somebody's own might not.
_KNOWN = {
    nn.Sequential, nn.Identity, nn.Flatten, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU,
    nn.Dropout,
}  # fmt: skip


def num_together(objective: Objective) -> int:
    """Return how many sets of weights of this net to evaluate in one pass."""
    known = all(type(module) in _KNOWN for module in objective.model.modules()) and not objective.loss_is_code
    small = known and objective.space.dimension <= _MOST_PARAMETERS
    return _AT_ONCE if small else 1


def evaluate_together(
    objective: Objective, thetas: Sequence[Tensor], buffers: Sequence[Mapping[str, Tensor]]
) -> list[Evaluation]:
    """Return what `Objective.evaluate` returns for each of several sets of weights, but for rounding.

    Args:
        objective: The mean loss.
        thetas: Each of shape (P,), at least one.
        buffers: For each, the BatchNorm statistics to use in place of the model's own; all of the same names.
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
        means = objective.mean_over_data(summand)
    classified = objective.criterion.classifies(objective.targets)
    return [Evaluation.of(one, objective.num_samples, objective.num_terms, classified=classified) for one in means]
