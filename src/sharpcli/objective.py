"""The mean loss over a data set as a function of θ. All sums over data are computed here.

Every quantity is a sum over samples in float64 that is divided once by the total weight of the loss terms; it is never a
mean of batch means. So it does not depend on the chunk size, on the size of the last chunk, or on how the ignored tokens are
distributed over the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpcli import batchnorm, graphs, streams
from sharpcli.chunks import Chunk, Group, at_random, each_by_itself, in_order, own_share
from sharpcli.errors import loss_not_finite
from sharpcli.inputs import Index, Inputs, InputSource, as_arguments, chosen, converted, copied, moved, sample_size
from sharpcli.kernels.fusing import Fusing
from sharpcli.losses import Evaluation as Evaluation
from sharpcli.losses import Loss, UserLoss, loss_of, moments
from sharpcli.memory import MemoryPlan
from sharpcli.modules import private_copy, run_with
from sharpcli.parameters import ParameterSpace, left_out
from sharpcli.placement import placed_inputs, samples_at, shared
from sharpcli.processes import SOLO, Processes, current
from sharpcli.runtime import Runtime, exact_arithmetic, generator
from sharpcli.trial_passes import overwrites_inputs, saved_bytes_per_sample, settled

_FEW = 4  # Samples that show whether model and data fit.
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class Objective:
    """f(θ) = (1/n) Σ loss terms of model(x_i; θ) and y_i over N fixed samples, with n the total weight of the terms.

    Use `Objective.of` to make one. It has a private copy of the model, in eval mode, so the module of the caller, its mode,
    buffers and gradients are never changed.

    Attributes:
        criterion: The loss as a function of outputs and targets.
        total_weight: n, the divisor of every mean: the number of loss terms, with class weights the sum of their weights.
        bn: "eval", "recompute" or "batch"; "none" for a model without BatchNorm.
        left_out: Parameters of the model that are not part of θ, by name, each with the reason.
        copies_inputs: Whether the model gets a copy of the inputs, because it overwrites them.
        fused: Whether the model runs with the kernels of `sharpcli.kernels` when gradients are on.
        processes: The processes that share the samples; each sums over its share, and every sum is over all processes.
    """

    model: nn.Module
    space: ParameterSpace
    runtime: Runtime
    inputs: Inputs | InputSource
    targets: Tensor
    criterion: Loss
    chunk_size: int
    total_weight: float
    bn: str
    left_out: Mapping[str, str]
    copies_inputs: bool = False
    fused: bool = False
    processes: Processes = SOLO

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
        """Return the mean loss of a model on data.

        Args:
            model: Any module that maps inputs (B, ...) to outputs (B, C), or (B, T, C) for targets (B, T).
            inputs: Shape (N, ...), or several tensors of this shape, or a source of them; see `sharpcli.inputs`. Integers,
                such as tokens, are not converted. Inputs that do not fit on the device are moved there chunk by chunk.
            targets: Classes (N,) or (N, T, ...), of which -100 is ignored; for "mse" also numbers, for "bce" labels (N, K).
            loss: "ce", "mse" or "bce", with options as in "ce:smoothing=0.1", or code; see `LossSpec`.
            runtime: Device and precision. Default: CUDA if available, else the CPU, and float32.
            chunk_size: Samples per pass. Default: see `MemoryPlan.samples_per_pass`.
            bn: Statistics that BatchNorm uses: "eval", those stored in the model; "recompute", those of all these inputs at
                these weights; "batch", those of fixed blocks of samples, in order.
            bn_block: Samples in a block of "batch"; each block is one chunk.
            params: Globs over the names of the trainable parameters; all others are constants. Default: all.

        Raises:
            InputError: Model and data do not fit together, or no parameter is trainable.
            SettingsError: An unknown loss or policy, a glob without a match, or settings that contradict each other.
        """
        criterion = loss_of(loss, targets)
        total = criterion.total_weight(targets)
        batchnorm.check(bn, bn_block, chunk_size)
        runtime = runtime or Runtime.open()
        private = private_copy(model).to(runtime.device, runtime.dtype).eval()
        bn = batchnorm.prepare(private, bn)
        space = ParameterSpace.chosen(private, params)
        missing = left_out(private, space)
        for name, parameter in private.named_parameters():
            parameter.requires_grad_(name in space.names)  # Constants need no graph.
        inputs = placed_inputs(inputs, runtime)
        targets = shared(targets, runtime.device, runtime.dtype)
        made = Objective(
            private, space, runtime, inputs, targets, criterion, chunk_size or 1, total, bn, missing, processes=current()
        )
        made = replace(made, copies_inputs=overwrites_inputs(made))
        if made.loss_is_code:  # Errors of the code are reported by its first call, which is this one.
            made = settled(made)
        saved = saved_bytes_per_sample(made)
        if not made.loss_is_code:
            made = settled(made)
        if bn == "recompute":
            private.load_state_dict(made.recompute_buffers(made.parameters()), strict=False)
        if chunk_size is None:
            # Of a source, two chunks are in memory: the current one and the next one.
            read = 2 * sample_size(inputs) if isinstance(made.inputs, InputSource) else 0
            chunk_size = MemoryPlan(runtime.device).samples_per_pass(saved + read)
        return replace(made, chunk_size=min(bn_block if bn == "batch" else chunk_size, len(targets)))

    @property
    def num_samples(self) -> int:
        """N, the number of samples."""
        return len(self.targets)

    @property
    def num_terms(self) -> int:
        """The number of loss terms, each counted once, whatever its weight."""
        return self.criterion.count(self.targets)

    def unit(self) -> dict[str, Any]:
        """Return the unit of the mean loss, and the mean number of loss terms of a sample, as fields of a result."""
        return self.criterion.described_terms(self.inputs, self.targets)

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
        """The statistics that BatchNorm uses, in words."""
        return batchnorm.describe(self.bn, self.chunk_size)

    @property
    def chunk_sizes(self) -> list[int]:
        """Number of samples in each chunk of a pass of this process; see `chunks.own_share`."""
        return self._share()[1]

    def _share(self) -> tuple[int, list[int]]:
        return own_share(self.num_samples, self.chunk_size, self.processes, self._blocks())

    def _blocks(self) -> list[int] | None:
        return batchnorm.block_sizes(self.num_samples, self.chunk_size) if self.bn == "batch" else None

    def parameters(self) -> Tensor:
        """Return the weights of the model as a vector (P,)."""
        return self.space.flatten(dict(self.model.named_parameters())).detach()

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context in which every pass through the model runs; see `runtime.exact_arithmetic`."""
        return exact_arithmetic(recurrent=any(isinstance(part, nn.RNNBase) for part in self.model.modules()))

    def samples(self, index: Index) -> tuple[Inputs, Tensor]:
        """Return inputs and targets of some samples, on the device and in the type of the model."""
        return samples_at(self.inputs, self.targets, index, self.runtime.device, self.runtime.dtype)

    def placed(self) -> Objective:
        """Return the same loss with its data on the device and in the type of the model, except inputs that do not fit."""
        return replace(
            self,
            inputs=placed_inputs(self.inputs, self.runtime),
            targets=moved(self.targets, self.runtime.device, self.runtime.dtype),
        )

    def converted(self, chunk: Chunk) -> Chunk:
        """Return a chunk of another objective on the same data, moved to the device and the type of this model."""
        inputs = converted(chunk.inputs, self.runtime.device, self.runtime.dtype)
        return Chunk(chunk.number, inputs, moved(chunk.targets, self.runtime.device, self.runtime.dtype))

    def chunks(self) -> Iterator[Chunk]:
        """Yield the data of this process once, in order, in chunks; without several processes, these are all data."""
        return in_order(self.samples, *self._share(), ahead=isinstance(self.inputs, InputSource))

    def chunk(self, number: int) -> Chunk:
        """Return the chunk with a given number in a pass of this process."""
        first, sizes = self._share()
        start = first + sum(sizes[:number])
        return Chunk(number, *self.samples(slice(start, start + sizes[number])))

    def groups(self, count: int, seed: int) -> Iterator[Group]:
        """Yield the data once in random groups, each in chunks of at most the chunk size; see `chunks.at_random`.

        With the BatchNorm policy "batch", the groups are its blocks, and `count` is not used. A group whose total weight is 0
        is left out, such as one in which every target is ignored.

        Args:
            count: Number of groups; N if larger.
            seed: Seed of the permutation that divides the samples into groups.
        """
        blocks = self._blocks()
        if blocks is not None:
            all_groups = each_by_itself(self.samples, self.targets, blocks, self.criterion.total_weight, self.processes)
        else:
            all_groups = at_random(
                self.samples,
                self.targets,
                groups=count,
                chunk_size=self.chunk_size,
                random=generator(seed, streams.GROUPS),
                weights=self.criterion.total_weights,
                processes=self.processes,
            )
        return (group for group in all_groups if group.total_weight)

    def outputs(self, parameters: Mapping[str, Tensor], inputs: Inputs, buffers: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs, (B, C) or (B, T, C), with these parameters, and these buffers instead of the model's."""
        arguments, keywords = as_arguments(copied(inputs) if self.copies_inputs else inputs)
        with Fusing() if self.fused else nullcontext():
            answer: Tensor = functional_call(self.model, {**parameters, **buffers}, arguments, keywords)
        return answer

    def at(self, theta: Tensor, run: Callable[[], _Answer]) -> _Answer:
        """Run a computation while the model has the weights θ, shape (P,); return its result.

        Activation checkpointing calls parts of the model again in the backward pass, after `outputs` has returned, and would
        use the weights of the model itself. So every differentiation at some θ must run inside this method.
        """
        return run_with(self.model, self.leaves(theta), run)

    def loss_sum(self, parameters: Mapping[str, Tensor], chunk: Chunk) -> Tensor:
        """Return the sum of the loss terms of a chunk, differentiable with respect to the parameters."""
        return self.loss_terms(parameters, chunk).sum()

    def loss_terms(
        self,
        parameters: Mapping[str, Tensor],
        chunk: Chunk,
        buffers: Mapping[str, Tensor] | None = None,
        *,
        precise: bool = False,
    ) -> Tensor:
        """Return the loss terms of a chunk, one number each.

        Args:
            parameters: Parameters by name.
            chunk: The samples.
            buffers: Buffers to use instead of those of the model, by name.
            precise: Whether to keep the digits of terms near 0, which takes more memory; no effect for a loss by code.
        """
        if isinstance(self.criterion, UserLoss):  # It calls the model itself, and may need gradients.
            inputs, wanted = copied(chunk.inputs) if self.copies_inputs else chunk.inputs, torch.is_grad_enabled()
            run = partial(self.criterion.of_model, self.model, inputs, chunk.targets)
            with torch.enable_grad(), Fusing() if self.fused else nullcontext():
                terms = run_with(self.model, {**parameters, **(buffers or {})}, run)
            return terms if wanted else terms.detach()
        outputs = self.outputs(parameters, chunk.inputs, buffers or {})
        return (self.criterion.precise_terms if precise else self.criterion.terms)(outputs, chunk.targets)

    def sample_sums(
        self, parameters: Mapping[str, Tensor], chunk: Chunk, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return, for each sample, sums over its loss terms, shape (3, B) or with weights (4, B); see `Loss.sample_sums`."""
        if isinstance(self.criterion, UserLoss):
            terms = self.loss_terms(parameters, chunk, buffers).sum(1)
            return torch.stack([terms, torch.zeros_like(terms), torch.full_like(terms, self.criterion.each)])
        return self.criterion.sample_sums(self.outputs(parameters, chunk.inputs, buffers or {}), chunk.targets)

    def sum_over(self, chunks: Iterable[Chunk], summand: Callable[[Chunk], Tensor], of: Tensor) -> Tensor:
        """Return Σ summand(chunk) over chunks of all processes. Every sum over data is computed here.

        The sum is in float64; with one chunk and one process only, the type of the summand is kept.

        Args:
            chunks: The chunks of this process; at least one if there is one process only.
            summand: The summand of a chunk.
            of: What the sum depends on, such as θ or a vector; see `Processes.sum`.
        """
        own = self.own_sum(chunks, summand)
        return own if self.processes.size == 1 else self.processes.sum(own.to(self.runtime.accumulator), of)

    def own_sum(self, chunks: Iterable[Chunk], summand: Callable[[Chunk], Tensor]) -> Tensor:
        """Return Σ summand(chunk) over chunks of this process only; see `sum_over`."""
        total = None
        with self.arithmetic():
            for chunk in chunks:
                with graphs.explained():
                    part = summand(chunk).detach()
                total = part if total is None else total.to(self.runtime.accumulator).add_(part)
            if total is None:  # This process has no sample; the shape of a summand is that of any samples.
                total = torch.zeros_like(summand(self.few()).detach())
        return total

    def mean_over_data(self, summand: Callable[[Chunk], Tensor], of: Tensor) -> Tensor:
        """Return (1/n) Σ summand(chunk) over all data, with n the total weight, in float64; see `sum_over`."""
        return self.sum_over(self.chunks(), summand, of).to(self.runtime.accumulator) / self.total_weight

    def loss(self, theta: Tensor) -> float:
        """Return f(θ)."""
        parameters = self.space.split(theta)
        with torch.no_grad():
            return float(self.mean_over_data(lambda chunk: self.loss_sum(parameters, chunk), theta))

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

        both = self.at(theta, lambda: self.mean_over_data(summand, theta))
        loss, finite = torch.stack([both[0], torch.isfinite(both).all().to(both)]).tolist()  # The host waits once.
        if not finite:
            raise loss_not_finite(loss)
        return loss, both[1:]

    def leaves(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the parameters of a vector (P,) by name, as leaf tensors that require gradients."""
        return {name: part.detach().requires_grad_() for name, part in self.space.split(theta).items()}

    def evaluate(self, theta: Tensor, buffers: Mapping[str, Tensor] | None = None) -> Evaluation:
        """Return loss and accuracy at θ, with standard errors; they are not finite if a loss term is not.

        Args:
            theta: Shape (P,).
            buffers: BatchNorm statistics to use instead of those of the model, such as those of `recompute_buffers`.
        """
        parameters = self.space.split(theta)

        def summand(chunk: Chunk) -> Tensor:
            return moments(self.sample_sums(parameters, chunk, buffers).to(self.runtime.accumulator))

        with torch.no_grad():
            means = self.mean_over_data(summand, theta)
        return self.criterion.evaluation(means, self.targets, self.total_weight)

    def recompute_buffers(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the BatchNorm statistics of this objective's data at θ, by buffer name; see `batchnorm.recompute`."""
        with self.arithmetic():
            return batchnorm.recompute(
                self.model, self.space.split(theta), lambda index: self.samples(index)[0], self.num_samples, self.processes
            )

    def few(self, count: int = _FEW) -> Chunk:
        """Return the first samples that have a loss term, since samples without one do not test anything."""
        index: Index = slice(count)
        if not bool(self.criterion.has_terms(self.targets[index]).all()):
            index = self.criterion.has_terms(self.targets).nonzero()[:count, 0]
        return Chunk(0, *self.samples(index))

    def among(self, positions: Tensor) -> Objective:
        """Return the mean loss over some of the samples, by their positions, shape (B,)."""
        inputs, targets = chosen(self.inputs, positions), self.targets[positions]
        total = self.criterion.total_weight(targets) or 1
        return replace(self, inputs=inputs, targets=targets, total_weight=total, chunk_size=min(self.chunk_size, len(targets)))

    def alone(self) -> Objective:
        """Return the same loss of which this process computes every sum by itself."""
        return replace(self, processes=SOLO)

    def doubled(self) -> Objective:
        """Return the same loss in float64; its samples are converted when they are used."""
        return replace(self, model=private_copy(self.model).double(), runtime=replace(self.runtime, dtype=torch.float64))

    def widened(self, chunk: Chunk) -> Objective:
        """Return the mean loss over the samples of one chunk, as one chunk, in float64, computed by this process alone."""
        wide = self.alone().doubled()
        _, inputs, targets = wide.converted(chunk)
        total = self.criterion.total_weight(targets) or 1
        return replace(wide, inputs=inputs, targets=targets, chunk_size=len(targets), total_weight=total)
