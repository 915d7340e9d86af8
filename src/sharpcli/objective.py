"""The mean loss over a data set as a function of θ. The only place where data is summed.

Every quantity is a sum over samples, kept in float64, divided once by the number of samples; it
is never a mean of batch means. So it does not depend on the batch size or on a ragged last batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.parameters import ParameterSpace
from sharpcli.runtime import Runtime, exact_arithmetic

BN_BLOCK = 1000  # Samples a block when BatchNorm statistics are recomputed; fixed, so that batch size cannot matter.
_CHUNK_BYTES = 2**28  # Tensors that the first backward pass of one chunk may save.


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of logits (B, C) against classes (B,), in nats."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the squared error (B,) of outputs (B, K), summed over K; classes (B,) count as one-hot."""
    outputs = outputs.flatten(1)
    if not targets.is_floating_point():
        targets = functional.one_hot(targets, outputs.shape[1])
    return 0.5 * (outputs - targets.to(outputs.dtype).view_as(outputs)).square().sum(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "mse": half_squared_error}


class Chunk(NamedTuple):
    """Consecutive samples that are on the device at once; `number` counts the chunks."""

    number: int
    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over N samples, with the standard error of each mean."""

    loss: float
    loss_standard_error: float
    accuracy: float | None
    accuracy_standard_error: float | None
    num_samples: int


@dataclass(frozen=True, eq=False)
class Objective:
    """f(θ) = (1/N) Σ loss(model(x_i; θ), y_i) over fixed samples, the model in eval mode.

    Make one with `Objective.of`. It owns a private copy of the model, so nothing of the caller's
    module, its mode, buffers or gradients is ever touched.
    """

    model: nn.Module
    space: ParameterSpace
    runtime: Runtime
    inputs: Tensor
    targets: Tensor
    loss_name: str
    chunk_size: int

    @staticmethod
    def of(
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        loss: str = "ce",
        runtime: Runtime | None = None,
        chunk_size: int | None = None,
    ) -> Objective:
        """Bind a model to data.

        Args:
            model: Any module that maps inputs (B, ...) to outputs (B, C).
            inputs: Shape (N, ...).
            targets: Classes (N,) or, for "mse", also numbers (N, K).
            loss: "ce" or "mse".
            runtime: Device and precision. Default: CUDA where there is one, float32.
            chunk_size: Samples a pass holds at once. Default: as many as keep memory modest.

        Raises:
            InputError: Model and data do not fit together, or nothing is trainable.
        """
        if loss not in LOSSES:
            raise SettingsError(f"There is no loss called '{loss}'.", f"Known: {', '.join(LOSSES)}.")
        if loss == "ce" and targets.is_floating_point():
            raise SettingsError("The targets are numbers, not classes, and cross-entropy needs classes.", "Use --loss mse.")
        _require_running_statistics(model)
        runtime = runtime or Runtime.open()
        private = copy.deepcopy(model).to(runtime.device, runtime.dtype).eval()
        space = ParameterSpace.of(private)
        if not space.names:
            raise InputError("The model has no trainable parameter.", "Set requires_grad on the parameters to analyse.")
        inputs = inputs.to(runtime.device, runtime.dtype if inputs.is_floating_point() else None)
        targets = targets.to(runtime.device, runtime.dtype if targets.is_floating_point() else None)
        objective = Objective(private, space, runtime, inputs, targets, loss, chunk_size or 1)
        saved = objective.saved_bytes_per_sample()
        if chunk_size is None:
            chunk_size = max(1, min(1000, _CHUNK_BYTES // max(saved, 1)))
        return replace(objective, chunk_size=min(chunk_size, len(inputs)))

    @property
    def num_samples(self) -> int:
        """N, the number of samples that every mean is over."""
        return len(self.inputs)

    def parameters(self) -> Tensor:
        """Return the weights the objective was made with, as a vector (P,)."""
        return self.space.flatten(dict(self.model.named_parameters())).detach()

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context that every pass through the model runs in."""
        return exact_arithmetic(recurrent=any(isinstance(part, nn.RNNBase) for part in self.model.modules()))

    def chunks(self) -> Iterator[Chunk]:
        """Go once through the data, in order."""
        pairs = zip(torch.split(self.inputs, self.chunk_size), torch.split(self.targets, self.chunk_size), strict=True)
        for number, (inputs, targets) in enumerate(pairs):
            yield Chunk(number, inputs, targets)

    def outputs(self, parameters: Mapping[str, Tensor], inputs: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:
        """Return what the model answers (B, C) with these parameters, and these buffers in place of its own."""
        answer: Tensor = functional_call(self.model, {**parameters, **buffers}, (inputs,))
        return answer

    def loss_sum(self, parameters: Mapping[str, Tensor], chunk: Chunk) -> Tensor:
        """Return the summed loss of a chunk, differentiable in the parameters."""
        return LOSSES[self.loss_name](self.outputs(parameters, chunk.inputs, {}), chunk.targets).sum()

    def mean_over_data(self, summand: Callable[[Chunk], Tensor]) -> Tensor:
        """Return (1/N) Σ summand(chunk) over all chunks, summed in float64. Every mean over data is this one."""
        total: Tensor | None = None
        with self.arithmetic():
            for chunk in self.chunks():
                part = summand(chunk).detach().to(self.runtime.accumulator)
                total = part if total is None else total.add_(part)
        assert total is not None
        return total / self.num_samples

    def loss(self, theta: Tensor) -> float:
        """Return f(θ)."""
        with torch.no_grad():
            parameters = self.space.split(theta)
            return float(self.mean_over_data(lambda chunk: self.loss_sum(parameters, chunk)))

    def gradient(self, theta: Tensor) -> Tensor:
        """Return ∇f(θ), shape (P,), in float64."""
        return self.loss_and_gradient(theta)[1]

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Return f(θ) and ∇f(θ), shape (P,), in float64, from one pass.

        Raises:
            NumericalError: Either is not finite.
        """
        leaves = self.leaves(theta)

        def summand(chunk: Chunk) -> Tensor:
            loss = self.loss_sum(leaves, chunk)
            slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return torch.cat([loss.detach().view(1), self.space.flatten(slopes)])

        both = self.mean_over_data(summand)
        if not bool(torch.isfinite(both).all()):
            raise NumericalError(
                "The loss or its gradient is not finite.", "Check the weights and the data; a diverged run cannot be analysed."
            )
        return float(both[0]), both[1:]

    def leaves(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the parameters of a vector (P,) by name, each ready to be differentiated by."""
        return {name: part.detach().requires_grad_() for name, part in self.space.split(theta).items()}

    def evaluate(self, theta: Tensor, buffers: Mapping[str, Tensor] | None = None) -> Evaluation:
        """Return loss and accuracy at θ, with standard errors; not finite where the loss is not.

        Args:
            theta: Shape (P,).
            buffers: BatchNorm statistics to use in place of the model's own, such as `recompute_buffers` returns.
        """
        parameters = self.space.split(theta)

        def summand(chunk: Chunk) -> Tensor:
            outputs = self.outputs(parameters, chunk.inputs, buffers or {})
            terms = LOSSES[self.loss_name](outputs, chunk.targets).to(self.runtime.accumulator)
            right = torch.zeros_like(terms) if chunk.targets.is_floating_point() else outputs.argmax(1) == chunk.targets
            return torch.stack([terms.sum(), terms.square().sum(), right.sum()])

        with torch.no_grad():
            loss, square, accuracy = self.mean_over_data(summand).tolist()
        count = self.num_samples
        classified = not self.targets.is_floating_point()
        return Evaluation(
            loss,
            _standard_error(square - loss**2, count),
            accuracy if classified else None,
            _standard_error(accuracy - accuracy**2, count) if classified else None,
            count,
        )

    def recompute_buffers(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the BatchNorm statistics of this objective's data at θ, by buffer name.

        One pass in blocks of `BN_BLOCK` samples, averaged by number of samples (Garipov et al. 2018,
        as in stochastic weight averaging). Empty for a model without BatchNorm.
        """
        layers = batch_norms(self.model)
        if not layers:
            return {}
        copied = copy.deepcopy(self.model)
        for layer in batch_norms(copied).values():
            layer.reset_running_stats()
            layer.train()
        names = {f"{name}.{key}" if name else key for name in layers for key in ("running_mean", "running_var")}
        buffers = {name: buffer.clone() for name, buffer in copied.named_buffers() if name in names}
        parameters, seen = self.space.split(theta), 0
        with torch.no_grad(), self.arithmetic():
            for block in _blocks(self.inputs):
                seen += len(block)
                for layer in batch_norms(copied).values():
                    layer.momentum = len(block) / seen
                functional_call(copied, {**parameters, **buffers}, (block,))
        return buffers

    def saved_bytes_per_sample(self) -> int:
        """Run a few samples through model and loss, and return about how many bytes each keeps for the backward pass.

        What does not fit together shows here, before the work.

        Raises:
            InputError: The model cannot take the data, or the loss depends on no trainable parameter.
        """
        few = Chunk(0, self.inputs[:4], self.targets[:4])
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        leaves = self.leaves(self.parameters())
        own = {part.untyped_storage().data_ptr() for part in (*leaves.values(), self.inputs, self.targets)}
        try:
            with self.arithmetic(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = self.loss_sum(leaves, few)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            shape = tuple(self.inputs.shape[1:])
            reason = str(error).splitlines()[0]
            raise InputError(
                f"The model cannot take this data (one sample is {shape}): {reason}",
                "Check --model, --model-arg and --data; they must be the ones the weights were trained with.",
            ) from error
        if not loss.requires_grad:
            raise InputError(
                "The loss does not depend on any trainable parameter.", "Check that the model uses its parameters."
            )
        return sum(size for pointer, size in storages.items() if pointer not in own) // len(few.inputs)


def _standard_error(variance: float, count: int) -> float:
    """Return that of a mean over samples from their (biased) variance; NaN for one sample, which has none."""
    if count < 2 or not math.isfinite(variance):
        return math.nan
    return math.sqrt(max(variance, 0) / (count - 1))


def _blocks(inputs: Tensor) -> list[Tensor]:
    """Cut into blocks of `BN_BLOCK`; one sample left over joins the block before, since it has no variance of its own."""
    blocks = list(torch.split(inputs, BN_BLOCK))
    return [*blocks[:-2], torch.cat(blocks[-2:])] if len(blocks) > 1 and len(blocks[-1]) == 1 else blocks


def _require_running_statistics(model: nn.Module) -> None:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not layer.track_running_stats:
            raise InputError(
                f"The BatchNorm layer '{name}' keeps no running statistics, so each loss would depend on the batch it is in.",
                "Build the model with track_running_stats=True, or with GroupNorm.",
            )


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorm layers of a model that keep running statistics, by name."""
    kind = nn.modules.batchnorm._BatchNorm
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kind) and layer.track_running_stats}
