"""Which axes of which tensors count the same hidden units: all of them permuted alike leave the function as it was.

`hidden_units` follows the data from layer to layer. What a layer receives and puts out is a layout: the groups of units that
its channels are, in order. Standard layers of torch and `nn.Sequential` are known here. Any other module, of sharpcli or of a
user, says how it is wired by one method:

    def wire_units(self, wiring, inputs):
        hidden = wiring.through(self.conv1, inputs)             # conv1 reads the inputs and puts out new units
        return wiring.into(self.conv2, hidden, outputs=inputs)  # its outputs are added to the inputs: the same units

It is given the layout of its inputs and returns that of its outputs. `torchvision_wiring.py` has such functions for classes of
torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError, described
from sharpcli.models.torchvision_wiring import torchvision_wiring

_BatchNorm = nn.modules.batchnorm._BatchNorm
# Layers that treat all channels alike and have no parameters: the layout passes through.
_ALIKE_FOR_ALL = (
    nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class UnitAxis:
    """An axis of a tensor, or a part of it, that counts the units of a group.

    Attributes:
        tensor: A parameter or buffer of the model itself.
        axis: The axis that counts units.
        start: Where the part begins along the axis.
        width: Entries along the axis for each unit, such as the pixels of a channel that was flattened.
        count: Number of units.
        learned: Whether the tensor is a parameter. Running statistics are permuted with their units, but do not tell which
            units of two networks match.
    """

    tensor: Tensor
    axis: int
    start: int
    width: int
    count: int
    learned: bool

    def rows(self) -> Tensor:
        """Return the entries of each unit, shape (count, ...), float64."""
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
class UnitGroup:
    """Units that one permutation moves, in every tensor that knows them.

    Attributes:
        count: Number of units; 1 for the inputs of the model, whose channels are not permuted.
        fixed: Whether they are inputs or outputs of the model, which keep their order.
        axes: The axes that count them.
        runs: Sizes of consecutive units that a GroupNorm normalises together, which must stay together.
    """

    count: int
    fixed: bool = False
    axes: list[UnitAxis] = field(default_factory=list)
    runs: set[int] = field(default_factory=set)

    def permute(self, order: Tensor) -> None:
        """Put the units into another order in every tensor, in place: position i receives unit order[i]."""
        for axis in self.axes:
            axis.permute(order)


Layout = tuple[UnitGroup, ...]


def hidden_units(model: nn.Module) -> list[UnitGroup]:
    """Return the groups of hidden units of a model, in the order of its layers.

    Raises:
        InputError: The model has no hidden units, or a module whose wiring is not known.
    """
    wiring = Wiring()
    for units in wiring.through(model, (UnitGroup(1, fixed=True),)):
        units.fixed = True
    hidden = [units for units in wiring.groups if not units.fixed]
    if not hidden:
        raise InputError("The model has no hidden units to permute.", "Leave --align out.")
    return hidden


class Wiring:
    """Records which axes count which units, while modules are followed from the inputs to the outputs.

    Attributes:
        groups: All groups of units so far, in the order of the layers that put them out.
    """

    def __init__(self) -> None:
        self.groups: list[UnitGroup] = []

    def through(self, module: nn.Module, inputs: Layout) -> Layout:
        """Record what a module does with the units of its inputs, and return the layout of its outputs.

        Raises:
            InputError: The wiring of the module is not known, or no permutation passes through it.
        """
        declared = getattr(module, "wire_units", None) or torchvision_wiring(module)
        if declared is not None:
            return self._declared(module, declared, inputs)
        if isinstance(module, nn.Sequential):
            for child in module:
                inputs = self.through(child, inputs)
            return inputs
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            return self.into(module, inputs, outputs=(self.new_units(len(module.weight)),))
        if isinstance(module, _BatchNorm | nn.GroupNorm):
            return self._through_norm(module, inputs)
        if isinstance(module, _ALIKE_FOR_ALL):
            return inputs
        raise InputError(
            f"Units cannot be permuted across a {type(module).__name__}.",
            "Leave --align out, or use a plain chain of layers, a built-in model or a module with a method wire_units.",
        )

    def into(self, layer: nn.Module, inputs: Layout, outputs: Layout) -> Layout:
        """Record that a dense layer or convolution maps one layout to another, and return the latter.

        It is needed where the outputs are added to something: both terms of a sum have the same units.
        """
        assert isinstance(layer.weight, Tensor)
        self._record(layer.weight, 1, inputs)
        for tensor in layer.parameters(recurse=False):
            self._record(tensor, 0, outputs)
        return outputs

    def new_units(self, count: int) -> UnitGroup:
        """Return a new group of units."""
        self.groups.append(UnitGroup(count))
        return self.groups[-1]

    def _declared(self, module: nn.Module, declared: Callable[[Wiring, Layout], Layout], inputs: Layout) -> Layout:
        try:
            return declared(self, inputs)
        except InputError:
            raise
        except Exception as error:  # A user's method may raise anything.
            if type(module).__module__.startswith("sharpcli."):
                raise
            message = f"The method wire_units of {type(module).__name__} failed: {described(error)}."
            raise InputError(message, "Mend that method, or leave --align out.") from error

    def _through_norm(self, norm: nn.Module, layout: Layout) -> Layout:
        for tensor in (*norm.parameters(recurse=False), *norm.buffers(recurse=False)):
            if tensor.ndim:
                self._record(tensor, 0, layout)
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

    def _record(self, tensor: Tensor, axis: int, layout: Layout) -> None:
        width, start = tensor.shape[axis] // sum(units.count for units in layout), 0
        for units in layout:
            units.axes.append(UnitAxis(tensor, axis, start, width, units.count, isinstance(tensor, nn.Parameter)))
            start += width * units.count
