"""The exact mean gradient over a batch, in chunks: the answer does not depend on the chunk size beyond rounding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sharpcli.losses import Loss
from sharpcli.runtime import Runtime


def mean_gradient(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    *,
    chunk_size: int,
    runtime: Runtime,
) -> float:
    """Put the gradient of the mean loss into `.grad` of the model's parameters, and return that loss.

    Gradients of summed chunk losses are added up in float64 and divided once by the number of loss terms.
    (A running mean of chunk means with a fixed divisor loses 37 % of the gradient, which has happened
    in published full-batch code.)

    Args:
        model: In whatever mode it is to be trained in.
        loss: What a prediction costs; targets that it ignores are not counted.
        inputs: The batch, shape (B, ...).
        targets: Its targets.
        chunk_size: Samples that pass through the model at once.
        runtime: Says in which type to add up.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = max(loss.count(targets), 1)  # A batch in which every target is ignored has no gradient.
    total, totals = 0.0, [torch.zeros((), device=inputs.device)] * len(parameters)
    pieces = list(zip(torch.split(inputs, chunk_size), torch.split(targets, chunk_size), strict=True))
    for number, (some, wanted) in enumerate(pieces):
        summed = loss.terms(model(some), wanted).sum()
        slopes = list(torch.autograd.grad(summed, parameters, allow_unused=True, materialize_grads=True))
        total += float(summed.detach())
        if len(pieces) == 1:
            totals = slopes
        elif number == 0:
            totals = [slope.to(runtime.accumulator) for slope in slopes]
        else:
            torch._foreach_add_(totals, slopes)
    for parameter, sum_ in zip(parameters, totals, strict=True):
        parameter.grad = (sum_ / count).to(parameter.dtype)
    return total / count


def clip(model: nn.Module, largest: float) -> float:
    """Scale the gradient down to norm `largest` if it is longer (0: never), and return its norm before.

    References:
        Pascanu et al. 2013; used for full batch by Geiping et al. 2022.
    """
    slopes = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    length = float(nn.utils.get_total_norm(slopes))
    if largest and length > largest:
        torch._foreach_mul_(slopes, largest / length)
    return length
