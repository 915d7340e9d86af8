"""The mean loss over a data set as a function of θ. The only place where data is summed.

Every quantity is a sum over samples, kept in float64, divided once by the number of loss terms; it
is never a mean of batch means. So it does not depend on the chunk size, on a ragged last batch or on
how many tokens of a sample are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpcli import batchnorm, graphs, streams
from sharpcli.chunks import Chunk, Group, at_random, each_by_itself, in_order
from sharpcli.errors import InputError, loss_not_finite
from sharpcli.inputs import (
    Index,
    Inputs,
    InputSource,
    as_arguments,
    chosen,
    converted,
    copied,
    moved,
    sample_size,
)
from sharpcli.kernels.fusing import Fusing
from sharpcli.losses import Evaluation as Evaluation
from sharpcli.losses import Loss, UserLoss, loss_of, moments
from sharpcli.memory import MemoryPlan
from sharpcli.modules import Holding, private_copy
from sharpcli.parameters import ParameterSpace, left_out
from sharpcli.placement import placed_inputs, samples_at
from sharpcli.runtime import Runtime, exact_arithmetic, generator
from sharpcli.trial_passes import overwrites_inputs, saved_bytes_per_sample, settled_loss

_FEW = 4  # Samples that show whether model and data fit.


_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class Objective:
    """f(θ) = (1/n) Σ loss terms of model(x_i; θ) and y_i over N fixed samples with n terms, the model in eval mode.

    Make one with `Objective.of`. It owns a private copy of the model, so nothing of the caller's
    module, its mode, buffers or gradients is ever touched.

    Attributes:
        criterion: The loss as a function of outputs and targets.
        num_terms: n, what every mean is divided by; N for one class or value a sample.
        bn: "eval", "recompute" or "batch"; "none" for a model without BatchNorm.
        left_out: Parameters of the model that θ does not hold, by name, each with the reason.
        copies_inputs: Whether the model overwrites its inputs, and so gets a copy of them.
        fused: Whether the model runs with the kernels of `sharpcli.kernels` where it is to be differentiated.
    """

    model: nn.Module
    space: ParameterSpace
    runtime: Runtime
    inputs: Inputs | InputSource
    targets: Tensor
    criterion: Loss
    chunk_size: int
    num_terms: int
    bn: str
    left_out: Mapping[str, str]
    copies_inputs: bool = False
    fused: bool = False

    @staticmethod
    def of(
        model: nn.Module,
        inputs: Inputs | InputSource,
        targets: Tensor,
        *,
        loss: str = "ce",
        runtime: Runtime | None = None,
        chunk_size: int | None = None,
        bn: str = "eval",
        bn_block: int = 128,
        params: tuple[str, ...] = (),
    ) -> Objective:
        """Bind a model to data.

        Args:
            model: Any module that maps inputs (B, ...) to outputs (B, C), or (B, T, C) for targets (B, T).
            inputs: Shape (N, ...), or several tensors of this shape, or a source of them; see `sharpcli.inputs`. Integers,
                such as tokens, stay integers. Inputs that do not fit on the device are moved there chunk by chunk.
            targets: Classes (N,) or (N, T, ...), where -100 is ignored; for "mse" also numbers, for "bce" labels, (N, K).
            loss: "ce", "mse" or "bce", with options as in "ce:smoothing=0.1", or code; see `LossSpec`.
            runtime: Device and precision. Default: CUDA where there is one, float32.
            chunk_size: Samples a pass holds at once. Default: as many as keep memory modest.
            bn: What BatchNorm normalises with: "eval", the statistics stored in the model; "recompute", those
                of all these inputs at these weights; "batch", those of fixed blocks of samples, in order.
            bn_block: Samples in a block of "batch", which is then the chunk.
            params: Globs over the names of the trainable parameters; all others are constants. Default: all.

        Raises:
            InputError: Model and data do not fit together, or nothing is trainable.
            SettingsError: An unknown loss or policy, a glob without a match, or settings that clash.
        """
        criterion = loss_of(loss, targets)
        terms = criterion.count(targets)
        batchnorm.check(bn, bn_block, chunk_size)
        runtime = runtime or Runtime.open()
        private = private_copy(model).to(runtime.device, runtime.dtype).eval()
        bn = batchnorm.prepare(private, bn)
        space = _trainable(private, params)
        missing = left_out(private, space)
        for name, parameter in private.named_parameters():
            parameter.requires_grad_(name in space.names)  # Constants need no graph.
        inputs = placed_inputs(inputs, runtime)
        targets = moved(targets, runtime.device, runtime.dtype)
        made = Objective(private, space, runtime, inputs, targets, criterion, chunk_size or 1, terms, bn, missing)
        made = replace(made, copies_inputs=overwrites_inputs(made))
        if made.loss_is_code:  # Its first call is the one that says what is wrong with it.
            made = _settled(made)
        saved = saved_bytes_per_sample(made)
        if not made.loss_is_code:
            made = _settled(made)
        if bn == "recompute":
            private.load_state_dict(made.recompute_buffers(made.parameters()), strict=False)
        if chunk_size is None:
            # Of a source there are two chunks at once: that which is worked on, and the next one.
            read = 2 * sample_size(inputs) if isinstance(made.inputs, InputSource) else 0
            chunk_size = MemoryPlan(runtime.device).samples_per_pass(saved + read)
        return replace(made, chunk_size=min(bn_block if bn == "batch" else chunk_size, len(targets)))

    @property
    def num_samples(self) -> int:
        """N, the number of samples."""
        return len(self.targets)

    @property
    def loss_name(self) -> str:
        """The name of the loss with its options."""
        return str(self.criterion.spec)

    @property
    def loss_is_code(self) -> bool:
        """Whether the loss is a function of the user's code, which calls the model itself."""
        return isinstance(self.criterion, UserLoss)

    @property
    def bn_policy(self) -> str:
        """What BatchNorm normalises with, in words."""
        return batchnorm.describe(self.bn, self.chunk_size)

    @property
    def chunk_sizes(self) -> list[int]:
        """Samples in each chunk of a pass; with the BatchNorm policy "batch" chunks are the fixed blocks."""
        if self.bn == "batch":
            return batchnorm.block_sizes(self.num_samples, self.chunk_size)
        return [len(part) for part in torch.split(self.targets, self.chunk_size)]

    def parameters(self) -> Tensor:
        """Return the weights the objective was made with, as a vector (P,)."""
        return self.space.flatten(dict(self.model.named_parameters())).detach()

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context that every pass through the model runs in."""
        return exact_arithmetic(recurrent=any(isinstance(part, nn.RNNBase) for part in self.model.modules()))

    def samples(self, index: Index) -> tuple[Inputs, Tensor]:
        """Return inputs and targets of some samples, on the device and in the type of the model."""
        return samples_at(self.inputs, self.targets, index, self.runtime.device, self.runtime.dtype)

    def placed(self) -> Objective:
        """Return the same loss with its data on the device and in the type of the model, where they fit."""
        return replace(
            self,
            inputs=placed_inputs(self.inputs, self.runtime),
            targets=moved(self.targets, self.runtime.device, self.runtime.dtype),
        )

    def converted(self, chunk: Chunk) -> Chunk:
        """Return a chunk of another objective of the same data, on the device and in the type of this model."""
        inputs = converted(chunk.inputs, self.runtime.device, self.runtime.dtype)
        return Chunk(chunk.number, inputs, moved(chunk.targets, self.runtime.device, self.runtime.dtype))

    def chunks(self) -> Iterator[Chunk]:
        """Go once through the data, in order."""
        return in_order(self.samples, self.chunk_sizes, ahead=isinstance(self.inputs, InputSource))

    def chunk(self, number: int) -> Chunk:
        """Return one of the chunks, by its number in a pass."""
        start = sum(self.chunk_sizes[:number])
        return Chunk(number, *self.samples(slice(start, start + self.chunk_sizes[number])))

    def groups(self, count: int, seed: int) -> Iterator[Group]:
        """Go once through the data in groups drawn at random, each in chunks as small as ever; see `chunks.at_random`.

        With the BatchNorm policy "batch" the groups are its blocks, whatever the count. A group in which every target
        is ignored is left out.

        Args:
            count: Number of groups; at most N.
            seed: Of the permutation that cuts the samples into groups.
        """
        terms = self.criterion.count
        if self.bn == "batch":
            all_groups = each_by_itself(self.chunks(), terms)
        else:
            all_groups = at_random(
                self.samples,
                self.targets,
                groups=count,
                chunk_size=self.chunk_size,
                random=generator(seed, streams.GROUPS),
                count=terms,
            )
        return (group for group in all_groups if group.num_terms)

    def outputs(self, parameters: Mapping[str, Tensor], inputs: Inputs, buffers: Mapping[str, Tensor]) -> Tensor:
        """Return what the model answers, (B, C) or (B, T, C), with these parameters, and these buffers in place of its own."""
        arguments, keywords = as_arguments(copied(inputs) if self.copies_inputs else inputs)
        with Fusing() if self.fused else nullcontext():
            answer: Tensor = functional_call(self.model, {**parameters, **buffers}, arguments, keywords)
        return answer

    def at(self, theta: Tensor, run: Callable[[], _Answer]) -> _Answer:
        """Return what a computation returns while the model holds θ, shape (P,).

        Activation checkpointing calls parts of the model again in the backward pass, when `outputs` has long
        returned, and would take the model's own weights. So whatever differentiates at a θ runs inside this.
        """
        names = {f"model.{name}": leaf for name, leaf in self.leaves(theta).items()}
        answer: _Answer = functional_call(Holding(self.model), names, (run,))
        return answer

    def loss_sum(self, parameters: Mapping[str, Tensor], chunk: Chunk) -> Tensor:
        """Return the summed loss of a chunk, differentiable in the parameters."""
        return self.loss_terms(parameters, chunk).sum()

    def loss_terms(
        self,
        parameters: Mapping[str, Tensor],
        chunk: Chunk,
        buffers: Mapping[str, Tensor] | None = None,
        *,
        precise: bool = False,
    ) -> Tensor:
        """Return one number for each loss term of a chunk.

        Args:
            parameters: By name.
            chunk: The samples.
            buffers: In place of the model's own, by name.
            precise: Whether terms near 0 keep their digits, which takes more memory; a loss by code has one way only.
        """
        if isinstance(self.criterion, UserLoss):
            return self._terms_of_code(self.criterion, {**parameters, **(buffers or {})}, chunk)
        outputs = self.outputs(parameters, chunk.inputs, buffers or {})
        return (self.criterion.precise_terms if precise else self.criterion.terms)(outputs, chunk.targets)

    def _terms_of_code(self, loss: UserLoss, state: Mapping[str, Tensor], chunk: Chunk) -> Tensor:
        """Return the terms by a function that calls the model itself; it may need gradients where the caller needs none."""
        inputs, wanted = copied(chunk.inputs) if self.copies_inputs else chunk.inputs, torch.is_grad_enabled()
        names = {f"model.{name}": part for name, part in state.items()}
        with torch.enable_grad(), Fusing() if self.fused else nullcontext():
            run = partial(loss.of_model, self.model, inputs, chunk.targets)
            terms: Tensor = functional_call(Holding(self.model), names, (run,))
        return terms if wanted else terms.detach()

    def sample_sums(
        self, parameters: Mapping[str, Tensor], chunk: Chunk, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return, for each sample, its summed loss, number of right predictions and number of loss terms, shape (3, B)."""
        if isinstance(self.criterion, UserLoss):
            terms = self.loss_terms(parameters, chunk, buffers).sum(1)
            return torch.stack([terms, torch.zeros_like(terms), torch.full_like(terms, self.criterion.each)])
        return self.criterion.sample_sums(self.outputs(parameters, chunk.inputs, buffers or {}), chunk.targets)

    def sum_over(self, chunks: Iterable[Chunk], summand: Callable[[Chunk], Tensor]) -> Tensor:
        """Return Σ summand(chunk) over some chunks, at least one. Every sum over data is this one.

        It is summed in float64; where there is one chunk only, there is nothing to sum and its type stays what it is.
        """
        total: Tensor | None = None
        with self.arithmetic():
            for chunk in chunks:
                with graphs.explained():
                    part = summand(chunk).detach()
                total = part if total is None else total.to(self.runtime.accumulator).add_(part)
        assert total is not None
        return total

    def mean_over_data(self, summand: Callable[[Chunk], Tensor]) -> Tensor:
        """Return (1/n) Σ summand(chunk) over all chunks and their n loss terms, in float64."""
        return self.sum_over(self.chunks(), summand).to(self.runtime.accumulator) / self.num_terms

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

        both = self.at(theta, lambda: self.mean_over_data(summand))
        if not bool(torch.isfinite(both).all()):
            raise loss_not_finite(float(both[0]))
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
            return moments(self.sample_sums(parameters, chunk, buffers).to(self.runtime.accumulator))

        with torch.no_grad():
            means = self.mean_over_data(summand)
        classified = self.criterion.classifies(self.targets)
        return Evaluation.of(means, self.num_samples, self.num_terms, classified=classified)

    def recompute_buffers(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the BatchNorm statistics of this objective's data at θ, by buffer name; see `batchnorm.recompute`."""
        with self.arithmetic():
            return batchnorm.recompute(self.model, self.space.split(theta), self._inputs_of, self.num_samples)

    def _inputs_of(self, index: Index) -> Inputs:
        return self.samples(index)[0]

    def few(self, count: int = _FEW) -> Chunk:
        """Return the first samples that have a loss term: others agree on everything."""
        index: Index = slice(count)
        if not bool(self.criterion.has_terms(self.targets[index]).all()):
            index = self.criterion.has_terms(self.targets).nonzero()[:count, 0]
        return Chunk(0, *self.samples(index))

    def among(self, positions: Tensor) -> Objective:
        """Return the mean loss over some of the samples, by their positions, shape (B,)."""
        inputs, targets = chosen(self.inputs, positions), self.targets[positions]
        terms = max(self.criterion.count(targets), 1)
        return replace(self, inputs=inputs, targets=targets, num_terms=terms, chunk_size=min(self.chunk_size, len(targets)))

    def doubled(self) -> Objective:
        """Return the same loss in float64; its samples are converted when they are used."""
        return replace(self, model=private_copy(self.model).double(), runtime=replace(self.runtime, dtype=torch.float64))

    def widened(self, chunk: Chunk) -> Objective:
        """Return the mean loss over the samples of one chunk, which stay one chunk, in float64."""
        wide = self.doubled()
        _, inputs, targets = wide.converted(chunk)
        terms = max(self.criterion.count(targets), 1)
        return replace(wide, inputs=inputs, targets=targets, chunk_size=len(targets), num_terms=terms)


def _settled(objective: Objective) -> Objective:
    criterion = settled_loss(objective)
    return replace(objective, criterion=criterion, num_terms=criterion.count(objective.targets))


def _trainable(model: nn.Module, params: tuple[str, ...]) -> ParameterSpace:
    space = ParameterSpace.of(model)
    if not space.names:
        raise InputError("The model has no trainable parameter.", "Set requires_grad on the parameters to analyse.")
    return space.select(params) if params else space
