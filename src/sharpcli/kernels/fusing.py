"""Replacement of torch functions by the kernels of this package while a model runs; BatchNorm is folded into convolutions.

In eval mode BatchNorm multiplies each channel by one number and adds another. After a convolution, both together are one
convolution with other weights. So BatchNorm costs nothing in a second derivative, instead of about twenty passes over the
activations. The model calls functions of torch as usual, and a `TorchFunctionMode` intercepts the calls. The model's code
is neither read nor changed. Calls that the kernels do not support, such as a convolution with padding="same", are left to
torch. See docs/decisions/0010-kernels-caught-on-the-way.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sharpcli.kernels.bilinear import Convolution, apply
from sharpcli.kernels.gemm import MatrixProduct, applies

_PENDING = "_sharpcli_convolution"


class _Origin(NamedTuple):
    """The convolution that made a tensor; it is valid while the version counters of input and output are `versions`."""

    kernel: Convolution
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    versions: tuple[int, int]


class Fusing(TorchFunctionMode):
    """A context in which the model runs with these kernels, if gradients are on.

    Attributes:
        count: Number of calls that were replaced so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, function: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the result of a call of torch, from a kernel of this package if one supports the call."""
        other = _OTHERS.get(function)
        if other is not None and torch.is_grad_enabled():
            answer = other(*args, **(kwargs or {}))
            if answer is not None:
                self.count += 1
                return answer
        return function(*args, **(kwargs or {}))


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if isinstance(padding, str) or input.ndim != weight.ndim:
        return None
    axes = weight.ndim - 2
    kernel = Convolution(_each(stride, axes), _each(padding, axes), _each(dilation, axes), groups)
    answer = apply(kernel, input, weight, bias)
    setattr(answer, _PENDING, _Origin(kernel, input, weight, bias, (input._version, answer._version)))
    return answer


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    return apply(MatrixProduct(), input, weight, bias) if applies(input, weight) else None


def _normalise(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None:
        return None
    scale = (running_var + eps).rsqrt() * (1 if weight is None else weight)
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    wide = (-1, *[1] * (input.ndim - 2))
    origin: _Origin | None = getattr(input, _PENDING, None)
    if origin is None or origin.versions != (origin.inputs._version, input._version):
        return torch.addcmul(shift.view(wide), input, scale.view(wide))
    # The output of the convolution is known, so the value needs no second convolution.
    known = torch.addcmul(shift.detach().view(wide), input.detach(), scale.detach().view(wide))
    folded = origin.weight * scale.view(-1, *[1] * (origin.weight.ndim - 1))
    shift = shift if origin.bias is None else shift + origin.bias * scale
    return apply(origin.kernel, origin.inputs, folded, shift, lambda: known)


def _each(value: Any, axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else list(value) * (axes if len(value) == 1 else 1)


_OTHERS: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv1d: _convolve,
    torch.conv2d: _convolve,
    torch.conv3d: _convolve,
    functional.batch_norm: _normalise,
    functional.linear: _multiply,
}
