"""The layout of θ: which tensors a flat parameter vector is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterSpace:
    """Names and shapes of the tensors that stand one after the other in a vector of shape (P,)."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @staticmethod
    def of(model: nn.Module) -> ParameterSpace:
        """Lay out the trainable parameters of a model; a tied tensor appears once."""
        named = [(name, tensor.shape) for name, tensor in model.named_parameters() if tensor.requires_grad]
        return ParameterSpace(tuple(name for name, _ in named), tuple(shape for _, shape in named))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each tensor."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def dimension(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of a vector (P,) in the shapes of the parameters, by name."""
        pieces = torch.split(vector, list(self.sizes))
        return {name: piece.view(shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}

    def flatten(self, tensors: Mapping[str, Tensor] | Iterable[Tensor]) -> Tensor:
        """Return tensors, given by name or in order, as one vector (P,)."""
        ordered = [tensors[name] for name in self.names] if isinstance(tensors, Mapping) else list(tensors)
        return torch.cat([tensor.reshape(-1) for tensor in ordered])
