"""Gradient penalty: add (lr β / 8) |∇L_B|² of each block B to its loss, by forward differences.

Reference: Geiping et al., ICLR 2022; Smith et al., ICLR 2021, for the implicit penalty of SGD.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpcli.batchnorm import frozen_statistics
from sharpcli.training.gradient import Block, Slopes, moved, quotient, replayed, scale, trained

_STEP = 0.01  # Length of the difference step, over all parameters, as published.


@dataclass(frozen=True, eq=False)
class GradientPenalty:
    """Adds (lr / 4) β H_B g_B to the gradient g_B of every block.

    H_B g_B is the gradient of ½|g_B|², so the penalty is (lr β / 8) |g_B|². With β = 2 it is the term (lr / 4) |g_B|²
    that SGD with random reshuffling implicitly minimizes, to first order (Smith et al. 2021); Geiping et al. use
    β = 0.5. The learning rate is that of the update, so the penalty decreases with it.

    Attributes:
        slopes: The gradient of a block.
        model: Its parameters are moved for the difference, and then restored exactly.
        strength: β.
    """

    slopes: Slopes
    model: nn.Module
    strength: float

    def __call__(self, block: Block, rate: float) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradient; see `Slopes`."""
        with replayed(self.model) as again:
            loss, summed = self.slopes(block, rate)
            if not block.total_weight:
                return loss, summed
            parameters = trained(self.model)
            size = nn.utils.get_total_norm(summed)
            offsets = [slope.clone() for slope in summed]
            scale(offsets, quotient(_STEP, size))
            again()  # With other dropped units the difference would be as large as the gradient, before division by the step.
            with moved(parameters, offsets), frozen_statistics(self.model):
                _, there = self.slopes(block, rate)
        # (g' - g) / e with v = β g, e = 0.01 / |v| and g the mean gradient of the block, so 1 / e = β |g| / 0.01.
        factor = rate / 4 * self.strength * (size * block.divisor / block.total_weight) / _STEP
        difference = torch._foreach_sub(there, summed)
        scale(difference, factor)
        torch._foreach_add_(summed, difference)
        return loss, summed
