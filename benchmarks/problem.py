"""The matrix that every tool is asked about: the Hessian of the mean loss of one net over one batch of data."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Mean cross-entropy of logits (B, ..., C) against classes (B, ...).

    A module with the attribute `reduction`, which is what the peers ask for.
    """

    reduction = "mean"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over all loss terms."""
        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


@dataclass(frozen=True, eq=False)
class Problem:
    """A net in eval mode, and the N samples of its Hessian as one batch in memory: the best case for every tool."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    @property
    def criterion(self) -> CrossEntropy:
        """The loss of outputs and targets."""
        return CrossEntropy()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trainable parameters, in the order that vectors (P,) are laid out in by every tool."""
        return list(self.model.parameters())

    @property
    def dimension(self) -> int:
        """P."""
        return sum(parameter.numel() for parameter in self.parameters)

    def double(self) -> Problem:
        """Return the same in float64, at the very same weights."""
        inputs = self.inputs.double() if self.inputs.is_floating_point() else self.inputs
        return Problem(copy.deepcopy(self.model).double(), inputs, self.targets)

    def loss(self) -> Tensor:
        """Return the mean loss, differentiable."""
        answer: Tensor = self.criterion(self.model(self.inputs), self.targets)
        return answer

    def gradient(self, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Return the gradient of the mean loss, in the shapes of the parameters."""
        return torch.autograd.grad(self.loss(), self.parameters, create_graph=create_graph)

    def parts(self, vector: Tensor) -> list[Tensor]:
        """Return a vector (P,) in the shapes of the parameters."""
        pieces = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def product(self, *, kept: bool) -> Callable[[Tensor], Tensor]:
        """Return v -> Hv by plain double backward, for v (P,): what everything here is held to.

        Args:
            kept: Whether the gradient's graph serves all products; else each makes it afresh.
        """
        once = self.gradient(create_graph=True) if kept else None

        def product(vector: Tensor) -> Tensor:
            slopes = once or self.gradient(create_graph=True)
            columns = torch.autograd.grad(slopes, self.parameters, self.parts(vector), retain_graph=kept)
            return torch.cat([column.reshape(-1) for column in columns])

        return product
