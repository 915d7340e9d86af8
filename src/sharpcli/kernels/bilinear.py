"""Maps y = B(x, w) + b that are linear in x and in w, differentiated twice by the kernels that differentiate them once.

Every derivative of such a map is one of its three parts: B itself and its two adjoints. With Bx(g, w) and Bw(g, x) those,

    first backward:   x' = Bx(g, w),   w' = Bw(g, x),   b' = Σ g;
    second, along (u, a, c) given for (x', w', b'):   g' = B(u, w) + B(x, a) + c,   x' = Bx(g, a),   w' = Bw(g, u).

Torch has these kernels, but differentiates the backward pass of a convolution by convolutions with kernels as large as
the picture. In place of that there are exactly six times the operations of one forward pass in a product with the
Hessian, the least that an exact one can take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Grads = tuple[Tensor | None, Tensor | None, Tensor | None]


class Bilinear(Protocol):
    """B and its adjoints."""

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return B(x, w) + b."""

    def adjoints(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Grads:
        """Return Bx(g, w), Bw(g, x) and Σ g (over all but the channels), or None for what is not wanted."""

    def spread(self, shift: Tensor, slope: Tensor) -> Tensor:
        """Return numbers for each channel in the shape of a slope."""


@dataclass(frozen=True)
class Convolution:
    """A convolution over 1, 2 or 3 dimensions of inputs (B, C, ...) with weights (D, C / groups, ...)."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution plus a bias for each channel."""
        answer: Tensor = torch.ops.aten.convolution(inputs, weight, bias, *self._shape())
        return answer

    def adjoints(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Grads:
        """Return the derivatives of <g, B(x, w) + b> in x, w and b."""
        size = [len(weight)] if wanted[2] else None
        gradients: Grads = torch.ops.aten.convolution_backward(slope, inputs, weight, size, *self._shape(), list(wanted))
        return gradients

    def spread(self, shift: Tensor, slope: Tensor) -> Tensor:
        """Return numbers (C,) in the shape of a slope (B, C, ...)."""
        return shift.view(-1, *[1] * (slope.ndim - 2)).expand_as(slope)

    def _shape(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, False, [0] * len(self.stride), self.groups


def apply(
    kernel: Bilinear, inputs: Tensor, weight: Tensor, bias: Tensor | None, known: Callable[[], Tensor] | None = None
) -> Tensor:
    """Return B(x, w) + b, twice differentiable.

    Args:
        kernel: B.
        inputs: x.
        weight: w.
        bias: b, one number a channel.
        known: Returns the answer where it costs less than B to find; never differentiated.
    """
    answer: Tensor = _Forward.apply(inputs, weight, bias, kernel, known)
    return answer


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kernel: Bilinear,
        known: Callable[[], Tensor] | None,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.kernel = kernel
        return kernel(inputs, weight, bias) if known is None else known()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        inputs, weight = ctx.saved_tensors
        return (*_Backward.apply(slope, inputs, weight, ctx.kernel, ctx.needs_input_grad[:3]), None, None)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, inputs: Tensor, weight: Tensor, kernel: Bilinear, wanted: tuple[bool, bool, bool]
    ) -> Grads:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(slope, inputs, weight)
        ctx.kernel = kernel
        return kernel.adjoints(slope, inputs, weight, wanted)

    @staticmethod
    def backward(ctx: Any, along: Tensor | None, across: Tensor | None, shift: Tensor | None) -> tuple[Any, ...]:
        """Return the derivatives in the slope, x and w along u, a and c, of which any may be missing."""
        slope, inputs, weight = ctx.saved_tensors
        kernel, (by_slope, by_inputs, by_weight) = ctx.kernel, ctx.needs_input_grad[:3]
        turned = _turned(kernel, slope, inputs, weight, (along, across, shift)) if by_slope else None
        x = kernel.adjoints(slope, inputs, across, (True, False, False))[0] if by_inputs and across is not None else None
        w = kernel.adjoints(slope, along, weight, (False, True, False))[1] if by_weight and along is not None else None
        return turned, x, w, None, None


def _turned(kernel: Bilinear, slope: Tensor, inputs: Tensor, weight: Tensor, given: Grads) -> Tensor | None:
    """Return B(u, w) + B(x, a) + c."""
    along, across, shift = given
    if across is not None:
        total = kernel(inputs, across, shift)
        return total if along is None else total.add_(kernel(along, weight, None))
    if along is not None:
        return kernel(along, weight, shift)
    return None if shift is None else kernel.spread(shift, slope)
