"""Maps y = B(x, w) + b with B linear in x and in w; their second derivatives use the kernels of their first derivatives.

Examples are convolutions and matrix products. Every derivative of such a map is B itself or one of its two adjoints, here
called Bx and Bw. With g the gradient with respect to y, the first backward pass returns the gradients

    x' = Bx(g, w),   w' = Bw(g, x),   b' = Σ g.

With u, a and c the gradients with respect to x', w' and b', the second backward pass returns the gradients of g, x and w:

    B(u, w) + B(x, a) + c,   Bx(g, a),   Bw(g, u).

Torch has these kernels, but differentiates the backward pass of a convolution by convolutions with kernels as large as the
image. Here a product with the Hessian, after its graph is made, takes exactly six times the operations of one forward pass,
which is the minimum for an exact product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Grads = tuple[Tensor | None, Tensor | None, Tensor | None]


class Bilinear(Protocol):
    """B and its adjoints; `slope` is g, the gradient with respect to y."""

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return B(x, w) + b."""

    def adjoints(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Grads:
        """Return Bx(g, w), Bw(g, x) and Σ g (over all axes except the channels); None for those that are not wanted."""

    def spread(self, shift: Tensor, slope: Tensor) -> Tensor:
        """Return one number per channel, expanded to the shape of g."""


@dataclass(frozen=True)
class Convolution:
    """A convolution over 1, 2 or 3 axes of inputs (B, C, ...) with weights (D, C / groups, ...)."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution plus the bias of each channel, shape (B, D, ...)."""
        answer: Tensor = torch.ops.aten.convolution(inputs, weight, bias, *self._shape())
        return answer

    def adjoints(self, slope: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Grads:
        """Return the derivatives of <g, B(x, w) + b> with respect to x, w and b; None for those that are not wanted."""
        size = [len(weight)] if wanted[2] else None
        gradients: Grads = torch.ops.aten.convolution_backward(slope, inputs, weight, size, *self._shape(), list(wanted))
        return gradients

    def spread(self, shift: Tensor, slope: Tensor) -> Tensor:
        """Return numbers (D,) expanded to the shape of g, (B, D, ...)."""
        return shift.view(-1, *[1] * (slope.ndim - 2)).expand_as(slope)

    def _shape(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, False, [0] * len(self.stride), self.groups


def apply(
    kernel: Bilinear, inputs: Tensor, weight: Tensor, bias: Tensor | None, known: Callable[[], Tensor] | None = None
) -> Tensor:
    """Return B(x, w) + b, twice differentiable with respect to x, w and b.

    Args:
        kernel: B.
        inputs: x.
        weight: w.
        bias: b, one number per channel.
        known: Returns the value of B(x, w) + b at a lower cost than B. It is not differentiated.
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
        """Return the gradients of g, x and w, given those of x', w' and b' (u, a and c), each of which may be None."""
        slope, inputs, weight = ctx.saved_tensors
        kernel, (by_slope, by_inputs, by_weight) = ctx.kernel, ctx.needs_input_grad[:3]
        turned = _turned(kernel, slope, inputs, weight, (along, across, shift)) if by_slope else None
        x = kernel.adjoints(slope, inputs, across, (True, False, False))[0] if by_inputs and across is not None else None
        w = kernel.adjoints(slope, along, weight, (False, True, False))[1] if by_weight and along is not None else None
        return turned, x, w, None, None


def _turned(kernel: Bilinear, slope: Tensor, inputs: Tensor, weight: Tensor, given: Grads) -> Tensor | None:
    """Return B(u, w) + B(x, a) + c, without the terms whose u, a or c is None; None if all are."""
    along, across, shift = given
    if across is not None:
        total = kernel(inputs, across, shift)
        return total if along is None else total.add_(kernel(along, weight, None))
    if along is not None:
        return kernel(along, weight, shift)
    return None if shift is None else kernel.spread(shift, slope)
