"""Permute the hidden units of one network to resemble another's: the same function, at other weights.

Only chains are aligned: layers one after the other, with nothing that mixes or joins channels between them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from sharpcli.errors import InputError
from sharpcli.runtime import generator

_STREAM = 34
_MOST_ROUNDS = 50
_BatchNorm = nn.modules.batchnorm._BatchNorm
_INDIFFERENT = (
    nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d,
)  # fmt: skip


@dataclass(eq=False)
class _Link:
    """A layer with weights, and the norms whose channels are its outputs."""

    layer: nn.Module
    norms: list[nn.Module] = field(default_factory=list)

    @property
    def units(self) -> int:
        return len(self.weight)

    @property
    def weight(self) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    def tensors(self) -> list[Tensor]:
        """Return all tensors with one entry or row an output, as they are in the modules."""
        found: list[Tensor] = [*self.layer.parameters(recurse=False)]
        for norm in self.norms:
            found += [tensor for tensor in (*norm.parameters(recurse=False), *norm.buffers(recurse=False)) if tensor.ndim]
        return found

    def rows(self) -> Tensor:
        """Return what each output depends on, shape (units, ...), float64."""
        return torch.cat([tensor.detach().double().reshape(self.units, -1) for tensor in self.tensors()], dim=1)

    def columns(self, units: int) -> Tensor:
        """Return what depends on each of so many inputs, shape (units, ...), float64; a channel may be several inputs."""
        wide = self.weight.detach().double()
        return wide.reshape(len(wide), units, -1).transpose(0, 1).reshape(units, -1)


def align(first: nn.Module, second: nn.Module, *, seed: int) -> tuple[nn.Module, float]:
    """Return a copy of the second model with its units permuted to match the first's, and the share that moved.

    Weight matching: for one layer after the other, in random order, the permutation of its outputs that makes the inner
    product of both networks' weights largest, given those of its neighbours, until none changes.

    Raises:
        InputError: The model is no chain, or permuting its units would change its function.

    References:
        Ainsworth, Hayase and Srinivasa, Git Re-Basin, ICLR 2023, algorithm 1.
    """
    moved = copy.deepcopy(second)
    ours, theirs = _chain(first), _chain(moved)
    random = generator(seed, _STREAM)
    shares = [numpy.arange(link.units) for link in theirs[:-1]]
    for _ in range(_MOST_ROUNDS):
        changed = False
        for place in torch.randperm(len(theirs) - 1, generator=random).tolist():
            units = theirs[place].units
            gain = ours[place].rows() @ theirs[place].rows().T
            gain += ours[place + 1].columns(units) @ theirs[place + 1].columns(units).T
            _, order = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
            if (order != numpy.arange(units)).any():
                _permute(theirs, place, torch.from_numpy(order))
                shares[place] = shares[place][order]
                changed = True
        if not changed:
            break
    total = sum(len(share) for share in shares)
    return moved, sum(int((share != numpy.arange(len(share))).sum()) for share in shares) / max(total, 1)


def _permute(links: list[_Link], place: int, order: Tensor) -> None:
    """Put the outputs of a layer, and the inputs of the next, into another order."""
    units = links[place].units
    with torch.no_grad():
        for tensor in links[place].tensors():
            tensor.copy_(tensor[order.to(tensor.device)].clone())
        weight = links[place + 1].weight
        shape = (len(weight), units, -1)
        weight.copy_(weight.reshape(shape)[:, order.to(weight.device)].reshape(weight.shape).clone())


def _chain(model: nn.Module) -> list[_Link]:
    """Return the layers of a model in which each feeds the next, channel by channel."""
    links: list[_Link] = []
    for module in _flat(model):
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            links.append(_Link(module))
        elif isinstance(module, _BatchNorm) and links:
            links[-1].norms.append(module)
        elif not isinstance(module, _INDIFFERENT):
            raise InputError(
                f"Units cannot be permuted across a {type(module).__name__}: --align is for plain chains of layers.",
                "Leave --align out, or use a model such as mlp, f1, c1 or c2.",
            )
    if len(links) < 2:
        raise InputError("The model has no hidden units to permute.", "Leave --align out.")
    return links


def _flat(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [part for child in module for part in _flat(child)]
    return [module]
