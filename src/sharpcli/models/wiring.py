"""Groups of hidden units of a model, and the tensor axes that index them.

If one permutation is applied to all axes of a group, the function of the model does not change. `hidden_units` follows the
data from layer to layer. The inputs and the outputs of a layer have a layout: the groups to which their channels belong, in
order. Standard layers of torch and `nn.Sequential` are known here. Any other module, of sharpcli or of the user, defines its
wiring by one method, which gets the layout of the inputs and returns the layout of the outputs:

    def wire_units(self, wiring, inputs):
        hidden = wiring.through(self.conv1, inputs)             # the outputs of conv1 are a new group of units
        return wiring.into(self.conv2, hidden, outputs=inputs)  # the outputs are added to the inputs: the same units

`torchvision_wiring.py` contains such functions for classes of torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError, described
from sharpcli.models.torchvision_wiring import torchvision_wiring

_BatchNorm = nn.modules.batchnorm._BatchNorm
# Layers without parameters that apply the same function to all channels: the layout does not change.
_ALIKE_FOR_ALL = (
    nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class UnitAxis:
    """An axis of a tensor, or a part of an axis, that indexes the units of a group.

    Attributes:
        tensor: A parameter or buffer of the model, not a copy.
        axis: Number of the axis.
        start: First index of the part along the axis.
        width: Number of entries along the axis for each unit, such as the number of pixels of a flattened channel.
        count: Number of units.
        learned: Whether the tensor is a parameter. Buffers, such as running statistics, are permuted, too, but are not used
            to match the units of two networks.
    """

    tensor: Tensor
    axis: int
    start: int
    width: int
    count: int
    learned: bool

    def rows(self) -> Tensor:
        """Return the entries of each unit as one row, shape (count, number of entries), float64."""
        return self._part().detach().double().reshape(self.count, -1)

    def permute(self, order: Tensor) -> None:
        """Permute the units in place: position i receives unit order[i], with `order` of shape (count,)."""
        with torch.no_grad():
            part = self._part()
            shape = (self.count, self.width, *part.shape[1:])
            part.copy_(part.clone().reshape(shape)[order.to(part.device)].reshape(part.shape))

    def _part(self) -> Tensor:
        return self.tensor.movedim(self.axis, 0)[self.start : self.start + self.width * self.count]


@dataclass(eq=False)
class UnitGroup:
    """A group of units that one permutation reorders in all tensors.

    Attributes:
        count: Number of units; 1 for the inputs of the model, whose channels are not permuted.
        fixed: Whether the units are inputs or outputs of the model, whose order must not change.
        axes: The axes that index the units.
        runs: Numbers of consecutive units that a GroupNorm normalises together; a permutation must not separate them.
    """

    count: int
    fixed: bool = False
    axes: list[UnitAxis] = field(default_factory=list)
    runs: set[int] = field(default_factory=set)

    def permute(self, order: Tensor) -> None:
        """Permute the units in all tensors, in place: position i receives unit order[i], with `order` of shape (count,)."""
        for axis in self.axes:
            axis.permute(order)


Layout = tuple[UnitGroup, ...]


def hidden_units(model: nn.Module) -> list[UnitGroup]:
    """Return the groups of hidden units of a model, in the order of its layers.

    Raises:
        InputError: The model has no hidden units, or a module that `Wiring.through` refuses.
    """
    wiring = Wiring()
    for units in wiring.through(model, (UnitGroup(1, fixed=True),)):
        units.fixed = True
    hidden = [units for units in wiring.groups if not units.fixed]
    if not hidden:
        raise InputError("The model has no hidden units to permute.", "Leave --align out.")
    return hidden


class Wiring:
    """A record of the axes that index each group of units, filled module by module from the inputs to the outputs.

    Attributes:
        groups: All groups of units so far, in the order of the layers whose outputs they are.
    """

    def __init__(self) -> None:
        self.groups: list[UnitGroup] = []

    def through(self, module: nn.Module, inputs: Layout) -> Layout:
        """Record the axes of a module that index units, and return the layout of its outputs.

        Raises:
            InputError: The wiring of the module is not known, its `wire_units` fails, or its units cannot be permuted.
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
        """Record that a dense layer or convolution maps the layout `inputs` to the layout `outputs`; return `outputs`.

        Use this method if the outputs are added to another tensor: both terms of a sum have the same units.
        """
        self.inputs_of(layer, inputs)
        return self.outputs_of(layer, outputs)

    def inputs_of(self, layer: nn.Module, layout: Layout) -> None:
        """Record that axis 1 of the weight of a layer or of an embedding indexes the units of a layout.

        An axis may have several layouts, such as the heads of attention, and the channels in each head.
        """
        assert isinstance(layer.weight, Tensor)
        self._record(layer.weight, 1, layout)

    def outputs_of(self, layer: nn.Module, layout: Layout) -> Layout:
        """Record that axis 0 of the parameters of a layer or of a LayerNorm indexes the units of a layout; return it."""
        for tensor in layer.parameters(recurse=False):
            self._record(tensor, 0, layout)
        return layout

    def new_units(self, count: int) -> UnitGroup:
        """Return a new group of `count` units."""
        self.groups.append(UnitGroup(count))
        return self.groups[-1]

    def _declared(self, module: nn.Module, declared: Callable[[Wiring, Layout], Layout], inputs: Layout) -> Layout:
        try:
            return declared(self, inputs)
        except InputError:
            raise
        except Exception as error:  # A user's method may raise any error.
            if type(module).__module__.startswith("sharpcli."):
                raise
            message = f"The method wire_units of {type(module).__name__} failed: {described(error)}."
            raise InputError(message, "Correct that method, or remove --align.") from error

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
                        "Units cannot be permuted across a GroupNorm whose groups do not match the groups of channels that "
                        "a shortcut adds or concatenates.",
                        "Remove --align, or use BatchNorm.",
                    )
                start += units.count
        return layout

    def _record(self, tensor: Tensor, axis: int, layout: Layout) -> None:
        width, start = tensor.shape[axis] // sum(units.count for units in layout), 0
        for units in layout:
            units.axes.append(UnitAxis(tensor, axis, start, width, units.count, isinstance(tensor, nn.Parameter)))
            start += width * units.count
