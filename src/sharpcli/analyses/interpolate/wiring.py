"""Which parts of which tensors belong to the same hidden units, so that permuting them all changes no function.

The walk follows what passes from layer to layer: a layout, the units of its channels in order. A shortcut makes the
two sides of a sum share their units; channels that are joined stand one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError
from sharpcli.models.architectures.densenet121 import DenseLayer
from sharpcli.models.blocks.residual import Block, Bottleneck, ZeroPadding
from sharpcli.models.blocks.wide_resnet import PreActivationBlock

_BatchNorm = nn.modules.batchnorm._BatchNorm
_INDIFFERENT = (
    nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Use:
    """A part of a tensor that has the same number of entries, rows or columns for each of some units.

    Attributes:
        tensor: Of the module itself.
        axis: That counts units.
        start: Where the part begins along it.
        width: Entries along it for each unit, such as the pixels of a channel that was flattened.
        count: Units.
        learned: Whether it is of a parameter; statistics move with their units, but say nothing of which match.
    """

    tensor: Tensor
    axis: int
    start: int
    width: int
    count: int
    learned: bool

    def rows(self) -> Tensor:
        """Return what belongs to each unit, shape (count, ...), float64."""
        return self._part().detach().double().reshape(self.count, -1)

    def permute(self, order: Tensor) -> None:
        """Put the units into another order, in place."""
        with torch.no_grad():
            part = self._part()
            shape = (self.count, self.width, *part.shape[1:])
            part.copy_(part.clone().reshape(shape)[order.to(part.device)].reshape(part.shape))

    def _part(self) -> Tensor:
        return self.tensor.movedim(self.axis, 0)[self.start : self.start + self.width * self.count]


@dataclass(eq=False)
class Units:
    """Hidden units that have one permutation, wherever they are used.

    Attributes:
        count: How many; of the model's inputs, whose channels stay where they are, 1.
        fixed: Whether they are inputs or outputs of the model.
        uses: Where.
        runs: Sizes of consecutive units that a GroupNorm normalises together, which must stay together.
    """

    count: int
    fixed: bool = False
    uses: list[Use] = field(default_factory=list)
    runs: set[int] = field(default_factory=set)


Layout = tuple[Units, ...]


def wire(model: nn.Module) -> list[Units]:
    """Return the hidden units of a model, in the order of its layers.

    Raises:
        InputError: It has none, or a layer of a kind that is not known here.
    """
    wiring = _Wiring()
    for units in wiring.through(model, (Units(1, fixed=True),)):
        units.fixed = True
    hidden = [units for units in wiring.made if not units.fixed]
    if not hidden:
        raise InputError("The model has no hidden units to permute.", "Leave --align out.")
    return hidden


class _Wiring:
    def __init__(self) -> None:
        self.made: list[Units] = []

    def through(self, module: nn.Module, layout: Layout) -> Layout:
        """Note what a module uses of a layout, and return the layout of what it puts out."""
        if isinstance(module, nn.Sequential):
            for child in module:
                layout = self.through(child, layout)
            return layout
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            return self._into(module, layout, (self._make(len(module.weight)),))
        if isinstance(module, _BatchNorm | nn.GroupNorm):
            return self._norm(module, layout)
        if isinstance(module, ZeroPadding):
            return (*layout, self._make(module.num_channels))
        if isinstance(module, DenseLayer):
            return (*layout, *self.through(module.branch, layout))
        if isinstance(module, PreActivationBlock):
            layout = self.through(module.norm1, layout)
            hidden = self.through(module.norm2, self.through(module.conv1, layout))
            return self._into(module.conv2, hidden, self._shortcut(module.shortcut, layout))
        if isinstance(module, Block | Bottleneck):
            hidden = self.through(module.norm1, self.through(module.conv1, layout))
            if isinstance(module, Bottleneck):
                hidden = self.through(module.norm2, self.through(module.conv2, hidden))
            kept = self._into(module.last, hidden, self._shortcut(module.shortcut, layout))
            return self.through(module.norm3 if isinstance(module, Bottleneck) else module.norm2, kept)
        if isinstance(module, _INDIFFERENT):
            return layout
        raise InputError(
            f"Units cannot be permuted across a {type(module).__name__}.",
            "Leave --align out, or use a plain chain of layers or a built-in model.",
        )

    def _shortcut(self, module: nn.Module | None, layout: Layout) -> Layout:
        return layout if module is None else self.through(module, layout)

    def _into(self, layer: nn.Module, inputs: Layout, outputs: Layout) -> Layout:
        """Note that a layer with weights maps one layout to another."""
        assert isinstance(layer.weight, Tensor)
        self._use(layer.weight, 1, inputs)
        for tensor in layer.parameters(recurse=False):
            self._use(tensor, 0, outputs)
        return outputs

    def _norm(self, norm: nn.Module, layout: Layout) -> Layout:
        for tensor in (*norm.parameters(recurse=False), *norm.buffers(recurse=False)):
            if tensor.ndim:
                self._use(tensor, 0, layout)
        if isinstance(norm, nn.GroupNorm) and norm.num_groups > 1:
            run, start = norm.num_channels // norm.num_groups, 0
            for units in layout:
                units.runs.add(run)
                if start % run or units.count % run or any(max(run, other) % min(run, other) for other in units.runs):
                    raise InputError(
                        "Units cannot be permuted across a GroupNorm whose groups cut through what a shortcut joins.",
                        "Leave --align out, or use BatchNorm.",
                    )
                start += units.count
        return layout

    def _use(self, tensor: Tensor, axis: int, layout: Layout) -> None:
        width, start = tensor.shape[axis] // sum(units.count for units in layout), 0
        for units in layout:
            units.uses.append(Use(tensor, axis, start, width, units.count, isinstance(tensor, nn.Parameter)))
            start += width * units.count

    def _make(self, count: int) -> Units:
        self.made.append(Units(count))
        return self.made[-1]
