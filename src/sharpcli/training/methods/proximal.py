"""Conservative training: each update approximately solves min f_B(x) + λ/2 |x - x_k|² by a few optimizer steps.

Reference: Li et al., KDD 2014; tried against sharp minima by Keskar et al., ICLR 2017, appendix E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Anchor:
    """The weights at the start of an update, and the strength of the proximal term.

    Attributes:
        parameters: The trainable parameters.
        strength: λ.
        place: Copies of them at the start of the update, x_k.
    """

    parameters: Sequence[nn.Parameter]
    strength: float
    place: list[Tensor]

    @staticmethod
    def at(parameters: Sequence[nn.Parameter], strength: float) -> Anchor:
        """Store the present values of the parameters."""
        return Anchor(parameters, strength, [parameter.detach().clone() for parameter in parameters])

    def pull(self) -> None:
        """Add λ (x - x_k) to `.grad`."""
        slopes = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        away = torch._foreach_sub([parameter.detach() for parameter in self.parameters], self.place)
        torch._foreach_add_(slopes, away, alpha=self.strength)
