"""The exact mean gradient over a batch, computed in blocks: the block size changes the result by rounding only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sharpcli.inputs import Inputs, as_arguments
from sharpcli.losses import Loss, UserLoss
from sharpcli.models.output import require_tensor
from sharpcli.training.division import Division


class Block(NamedTuple):
    """Samples that pass through the model together.

    Attributes:
        inputs: Inputs of B samples.
        targets: Their targets.
        total_weight: Sum of the weights of their loss terms; without class weights, the number of terms.
        divisor: The same sum for the entire batch; the mean divides by it.
        weights: Factor of each sample's loss, shape (B,), or None for 1.
    """

    inputs: Inputs
    targets: Tensor
    total_weight: float
    divisor: float
    weights: Tensor | None = None


class Slopes(Protocol):
    """The contribution of a block to the gradient: the plain gradient, or a method that changes it for each block."""

    def __call__(self, block: Block, rate: float) -> tuple[Tensor, list[Tensor]]:
        """Return the summed loss of a block, and the gradient of that sum divided by the divisor, as a list of tensors.

        Args:
            block: The samples.
            rate: The learning rate of the update.
        """


@dataclass(frozen=True, eq=False)
class Plain:
    """The gradient of the summed loss divided by the divisor.

    Attributes:
        model: The model, in the mode in which it is trained.
        loss: The loss function.
        amp: Whether passes run in mixed precision; outputs, losses and gradients have the type of the weights.
    """

    model: nn.Module
    loss: Loss
    amp: bool = False

    def __call__(self, block: Block, rate: float) -> tuple[Tensor, list[Tensor]]:  # noqa: ARG002
        """Return loss and gradient; see `Slopes`. The returned loss is not weighted."""
        parameters = trained(self.model)
        terms = self.terms(block)
        summed = terms.sum()
        weighted = summed if block.weights is None else (terms.reshape(len(terms), -1).sum(1) * block.weights).sum()
        share = weighted / block.divisor
        slopes = torch.autograd.grad(share, parameters, allow_unused=True, materialize_grads=True)
        return summed.detach(), list(slopes)

    def terms(self, block: Block) -> Tensor:
        """Return one number for each loss term of a block."""
        if not isinstance(self.loss, UserLoss):
            return self.loss.terms(self.outputs(block.inputs), block.targets)
        with self._precision():
            return self.loss.of_model(self.model, block.inputs, block.targets)

    def outputs(self, inputs: Inputs) -> Tensor:
        """Return the outputs of the model."""
        arguments, keywords = as_arguments(inputs)
        with self._precision():
            outputs = require_tensor(self.model(*arguments, **keywords))
        return outputs.to(next(self.model.parameters()).dtype) if self.amp else outputs

    def _precision(self) -> AbstractContextManager[object]:
        if not self.amp:
            return nullcontext()
        return torch.autocast(next(self.model.parameters()).device.type, dtype=torch.bfloat16)


class Share(NamedTuple):
    """The share of this process in an update.

    Attributes:
        division: How the samples are divided.
        blocks: Number of blocks of all processes.
        divisor: Sum of the weights of the loss terms of the entire batch.
    """

    division: Division
    blocks: int
    divisor: float


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def mean_gradient(
    slopes: Slopes,
    blocks: Iterator[Block],
    parameters: Sequence[nn.Parameter],
    *,
    rate: float = 0.0,
    share: Share | None = None,
) -> Tensor:
    """Put the gradient of the mean loss over some blocks into `.grad` of the parameters, and return that loss, a scalar.

    The host does not wait for the device.

    The gradient of a block is that of its summed loss, divided by the divisor of the entire batch. The gradients
    of the blocks are added in float64. (A running mean of block means with a fixed divisor loses 37 % of the gradient;
    published full-batch code had this error.) With only one block nothing is added, and the gradient keeps its type.

    Args:
        slopes: The contribution of a block.
        blocks: The blocks of this process.
        parameters: The parameters that are trained.
        rate: The learning rate of the update.
        share: Adds the sums of several processes; None for one process.
    """
    losses, divisor, totals = list[Tensor](), 1.0, list[Tensor]()
    before = [] if share is None else share.division.statistics()
    for parameter in parameters:
        parameter.grad = None  # Freed first, so that the new gradient can reuse the cached memory.
    for number, block in enumerate(blocks):
        loss, parts = slopes(block, rate)
        losses.append(loss)
        divisor = block.divisor
        if number == 0:
            totals = parts
        else:
            if number == 1 and parts and parts[0].device.type != "mps":
                totals = [part.double() for part in totals]
            torch._foreach_add_(totals, parts)
    if share is not None:
        own = torch.stack(losses).double().sum() if losses else None
        loss, totals = share.division.summed(own, totals, parameters, before, share.blocks)
        losses, divisor = [loss], share.divisor
    for parameter, slope in zip(parameters, totals, strict=True):
        parameter.grad = _laid_out(slope, parameter)
    summed = torch.stack(losses)
    return (summed.cpu() if summed.device.type == "mps" else summed).double().sum() / divisor


def _laid_out(slope: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return a gradient with the type and the memory layout of its parameter.

    `autograd.grad` returns the layout that the last operation produced. torch's fused optimizers read the memory of gradient
    and parameter without their strides, so with different layouts they would update the wrong weights.
    """
    slope = slope.to(parameter.dtype)
    return slope if slope.stride() == parameter.stride() else torch.empty_like(parameter).copy_(slope)


def clip(parameters: Sequence[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradient down to norm `largest` if it is longer, and return its norm before scaling, a scalar.

    References:
        Pascanu et al. 2013; used for full batch by Geiping et al. 2022.
    """
    length = gradient_norm(parameters)
    factor = torch.where(length > largest, quotient(largest, length), 1.0)
    scale([parameter.grad for parameter in parameters if parameter.grad is not None], factor)
    return length


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the L2 norm of `.grad` over all parameters, a scalar."""
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


def quotient(number: float, by: Tensor) -> Tensor:
    """Return number / by for a scalar tensor, in float64 where the device supports it; 0 if `by` is 0."""
    wide = by if by.device.type == "mps" else by.double()
    return torch.where(wide == 0, torch.zeros_like(wide), number / wide)


def scale(tensors: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply tensors by a scalar tensor, in place, without waiting for the device."""
    if tensors:
        torch._foreach_mul_(list(tensors), factor.to(tensors[0].dtype))


@contextmanager
def replayed(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Yield a function that restores the present random state, so that dropout drops the same units in a second pass.

    On exit the random state is the state after the first pass.
    """
    device = next(model.parameters()).device
    cuda = device.type == "cuda"
    before = torch.get_rng_state(), torch.cuda.get_rng_state(device) if cuda else None
    after = before

    def again() -> None:
        nonlocal after
        after = torch.get_rng_state(), torch.cuda.get_rng_state(device) if cuda else None
        _set_random(before, device)

    yield again
    if after is not before:
        _set_random(after, device)


def _set_random(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def moved(parameters: Sequence[Tensor], offsets: Sequence[Tensor]) -> Iterator[None]:
    """Add offsets to parameters inside the `with` block; on exit the original values are restored exactly."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_add_(list(parameters), list(offsets))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), before)
