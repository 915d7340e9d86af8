"""Adversarial training: inputs moved by ε along the sign of their gradient before every pass (FGSM).

Reference: Goodfellow, Shlens and Szegedy, ICLR 2015, section 4; tried against sharp minima by Keskar et al., ICLR 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli.batchnorm import frozen_statistics
from sharpcli.training.gradient import Block, Plain, Slopes


@dataclass(frozen=True, eq=False)
class Adversarial:
    """Computes the gradient at the worst inputs for a linear model, in the box of half-width ε around the true inputs.

    Attributes:
        slopes: The gradient of a block.
        plain: Model and loss.
        epsilon: ε, in units of the model's inputs (standardised pixels).
    """

    slopes: Slopes
    plain: Plain
    epsilon: float

    def __call__(self, block: Block, rate: float) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradient at the moved inputs; see `Slopes`."""
        return self.slopes(block._replace(inputs=self.moved_inputs(block)), rate)

    def moved_inputs(self, block: Block) -> Tensor:
        """Return x + ε sign(∂loss/∂x), shape (B, ...)."""
        assert isinstance(block.inputs, Tensor)  # See `Updater.check`.
        inputs = block.inputs.detach().requires_grad_()
        with frozen_statistics(self.plain.model):
            loss = self.plain.terms(block._replace(inputs=inputs)).sum()
        (slope,) = torch.autograd.grad(loss, inputs)
        return (inputs + self.epsilon * slope.sign()).detach()
