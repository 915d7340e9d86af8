"""Sharpness-aware minimization (SAM, ASAM): the gradient at the approximately worst point within a radius.

Reference: Foret et al., ICLR 2021, equations 2 and 3; Kwon et al., ICML 2021 (ASAM), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpcli.batchnorm import frozen_statistics
from sharpcli.training.gradient import moved, quotient, scale, trained


@dataclass(frozen=True, eq=False)
class SharpnessAware:
    """Computes the gradient g, and then the gradient at w + e.

    SAM: e = ρ g / |g|. ASAM, which is invariant to a rescaling of layers against each other:
    e = ρ w² g / | |w| g |, with elementwise products.

    Attributes:
        gradient: Puts a gradient into `.grad` and returns the loss; called twice.
        model: The model; the second pass does not change its BatchNorm running statistics.
        rho: The radius ρ.
        adaptive: ASAM instead of SAM.
    """

    gradient: Callable[[], Tensor]
    model: nn.Module
    rho: float
    adaptive: bool

    def __call__(self) -> Tensor:
        """Put the gradient at w + e into `.grad`, and return the loss at w, a scalar."""
        loss = self.gradient()
        parameters = trained(self.model)
        with moved(parameters, self.ascent(parameters)), frozen_statistics(self.model):
            self.gradient()
        return loss

    def ascent(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Return e, tensor by tensor; 0 where the gradient is 0."""
        slopes = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sizes = [parameter.detach().abs() for parameter in parameters] if self.adaptive else None
        scaled = torch._foreach_mul(sizes, slopes) if sizes else slopes
        length = nn.utils.get_total_norm(scaled)
        towards = torch._foreach_mul(sizes, scaled) if sizes else [slope.clone() for slope in scaled]
        scale(towards, quotient(self.rho, length))
        return list(towards)
