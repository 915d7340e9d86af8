"""The layout of θ: the tensors that form the flat parameter vector."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError, SettingsError

_ROOT = "(model)"  # The layer of parameters that belong to the model itself.


@dataclass(frozen=True)
class ParameterSpace:
    """Names and shapes of the tensors that are concatenated in a vector of shape (P,)."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @staticmethod
    def of(model: nn.Module) -> ParameterSpace:
        """Return the space of the trainable parameters of a model; a tied tensor appears once."""
        named = [(name, tensor.shape) for name, tensor in model.named_parameters() if tensor.requires_grad]
        return ParameterSpace(tuple(name for name, _ in named), tuple(shape for _, shape in named))

    @staticmethod
    def chosen(model: nn.Module, globs: tuple[str, ...]) -> ParameterSpace:
        """Return the space of the trainable parameters that match at least one of some globs; without globs, of all.

        Raises:
            InputError: No parameter is trainable.
            SettingsError: A glob matches no name.
        """
        space = ParameterSpace.of(model)
        if not space.names:
            raise InputError("The model has no trainable parameter.", "Set requires_grad on the parameters to analyse.")
        return space.select(globs) if globs else space

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each tensor."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def dimension(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    def select(self, globs: Iterable[str]) -> ParameterSpace:
        """Return the space of the parameters whose name matches at least one glob, in the same order.

        Args:
            globs: Patterns as in `fnmatch`, such as "head.*"; they are case-sensitive.

        Raises:
            SettingsError: A glob matches no name.
        """
        globs = tuple(globs)
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in self.names):
                near = ", ".join(difflib.get_close_matches(glob, self.names, n=3, cutoff=0))
                raise SettingsError(f"No trainable parameter matches '{glob}'.", f"The closest names are {near}.")
        chosen = [any(fnmatchcase(name, glob) for glob in globs) for name in self.names]
        names = tuple(name for name, wanted in zip(self.names, chosen, strict=True) if wanted)
        return ParameterSpace(names, tuple(shape for shape, wanted in zip(self.shapes, chosen, strict=True) if wanted))

    def groups(self) -> dict[str, list[str]]:
        """Return the names of the parameters by layer, in order; a layer is the module that has them, "(model)" the model."""
        layers: dict[str, list[str]] = {}
        for name in self.names:
            layers.setdefault(name.rpartition(".")[0] or _ROOT, []).append(name)
        return layers

    def layer_slices(self) -> dict[str, slice]:
        """Return the slice of each layer of `groups` in a vector (P,); the parameters of a module are always adjacent."""
        size = dict(zip(self.names, self.sizes, strict=True))
        slices, start = {}, 0
        for layer, names in self.groups().items():
            stop = start + sum(size[name] for name in names)
            slices[layer] = slice(start, stop)
            start = stop
        return slices

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of a vector (P,) in the shapes of the parameters, by name."""
        pieces = torch.split(vector, list(self.sizes))
        return {name: piece.view(shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}

    def flatten(self, tensors: Mapping[str, Tensor] | Iterable[Tensor]) -> Tensor:
        """Return tensors, given by name or in order, as one vector (P,)."""
        ordered = [tensors[name] for name in self.names] if isinstance(tensors, Mapping) else list(tensors)
        return torch.cat([tensor.reshape(-1) for tensor in ordered])


def filter_normalised(direction: Tensor, theta: Tensor, space: ParameterSpace) -> Tensor:
    """Return a direction, scaled so that each filter has the norm of the weights' filter; tensors of one axis become 0.

    A filter is a slice of a tensor along its first axis: an output channel of a convolution, a row of a linear layer.

    Args:
        direction: Shape (P,).
        theta: The weights, shape (P,).
        space: The layout of both.

    References:
        Li et al., NeurIPS 2018, section 4.
    """
    parts = []
    pairs = zip(space.split(direction).values(), space.split(theta).values(), strict=True)
    for part, weights in pairs:
        if part.ndim < 2:
            parts.append(torch.zeros_like(part))
            continue
        rows, wanted = part.flatten(1), weights.flatten(1).norm(dim=1, keepdim=True)
        lengths = rows.norm(dim=1, keepdim=True)
        parts.append(rows * (wanted / lengths.clamp_min(torch.finfo(rows.dtype).tiny)))
    return space.flatten(parts)


def left_out(model: nn.Module, space: ParameterSpace) -> dict[str, str]:
    """Return the parameters of a model that a space does not contain, each with "tied to NAME", "frozen" or "not selected"."""
    first: dict[int, str] = {}
    reasons = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(tensor), name)
        if owner != name:
            reasons[name] = f"tied to {owner}"
        elif name not in space.names:
            reasons[name] = "not selected" if tensor.requires_grad else "frozen"
    return reasons
