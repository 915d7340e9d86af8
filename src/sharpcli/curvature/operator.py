"""The base class of all curvature operators: products with a symmetric matrix that is a mean over loss terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.chunks import Chunk
from sharpcli.curvature import rounding
from sharpcli.curvature.blocks import Block
from sharpcli.curvature.diagnosis import not_finite
from sharpcli.curvature.difference import Difference
from sharpcli.curvature.engine import Engine, Graph
from sharpcli.curvature.kept import KeptGraphs
from sharpcli.curvature.soundness import DIFFERENCE, PLAIN, settle
from sharpcli.curvature.verification import Verdict, verify
from sharpcli.errors import InputError, SettingsError, closest, is_out_of_memory
from sharpcli.memory import MemoryPlan
from sharpcli.objective import Objective

_Answer = TypeVar("_Answer")


class GroupedProduct(NamedTuple):
    """A product with a vector, and the contribution of each group of samples to the quadratic form.

    Attributes:
        product: Av, shape (P,), in the operator's type.
        forms: vᵀA_g v, where A_g is the (weighted) mean over the loss terms of group g, shape (G,), float64, on the CPU.
        weights: Weight of each group, usually its number of loss terms, shape (G,), float64, on the CPU;
            Σ weights·forms / Σ weights is vᵀAv.
    """

    product: Tensor
    forms: Tensor
    weights: Tensor

    def mean(self) -> tuple[float, float]:
        """Return the mean of the quadratic forms over loss terms, and its standard error, estimated from the groups."""
        forms, weights = self.forms, self.weights.double() / float(self.weights.sum())
        mean = float(weights @ forms)
        count = len(forms)
        spread = float((weights.square() * (forms - mean).square()).sum()) * count / max(count - 1, 1)
        return mean, math.sqrt(spread)


class CurvatureOperator(ABC):
    """A symmetric matrix A(θ) = (1/n) Σ over chunks, as a map on vectors (P,).

    The part of a chunk that does not depend on the vector (its graph) is stored for further products if memory allows, and
    computed again otherwise; the result is the same. Products use double backward, or another engine that was verified
    against it. Products of `quadratic_forms` use double backward in both cases, so that an eigenpair of another engine is
    not verified by that engine. Only the engine "difference" is used for both.

    If memory is not sufficient, graphs are discarded first, then fewer samples pass at once; the result does not change.

    With a scale s the matrix is diag(s) A(θ) diag(s) instead: that of the same loss in the coordinates θ / s.

    Attributes:
        engines: Names of the available engines; all are compared with double backward, which is compared with differences.
        engine_name: The name of the engine in use.
        objective: Mean loss over data.
        products: Number of products so far.
        product_error: The largest error of a product with a unit vector that the engine has measured; 0 if products
            are exact up to rounding.
    """

    engines: ClassVar[tuple[str, ...]] = (PLAIN, "fused", DIFFERENCE)

    def __init__(
        self,
        objective: Objective,
        theta: Tensor,
        *,
        memory: int | None = None,
        engine: str = "auto",
        compiled: bool = False,
        scale: Tensor | None = None,
    ) -> None:
        """Set the point and verify the engine.

        Args:
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            memory: Bytes that stored graphs may take. Default: a share of the free memory.
            engine: One of `engines`; if its verification fails, double backward is used, with a warning. "auto" is double
                backward, or differences, with a warning, if double backward is missing or wrong.
            compiled: Whether the engine uses torch.compile.
            scale: s, shape (P,), at least 0; None for the matrix itself.

        Raises:
            InputError: The gradient is not that of the loss, or the requested engine cannot be correct for this model.
            SettingsError: There is no such engine, or it cannot be compiled.
        """
        if engine not in ("auto", *self.engines):
            raise SettingsError(f"There is no engine '{engine}' for this operator.", closest(engine, self.engines))
        engine, self._remark = settle(type(self), objective, theta, engine)
        engine = PLAIN if engine == "auto" else engine
        self.objective = objective
        self.products = 0
        self.product_error = 0.0
        self._theta = theta.detach().clone()
        self._scale = None if scale is None else scale.to(theta.device, objective.runtime.accumulator)
        self._budget = MemoryPlan(objective.runtime.device).kept_graphs() if memory is None else memory
        self._verdict = self._fallen = ""
        first = DIFFERENCE if engine == DIFFERENCE else PLAIN
        self._tie(first, self.make(first, objective))
        if engine != first or compiled:
            self._use(engine, compiled=compiled)

    @classmethod
    @abstractmethod
    def make(cls, engine: str, objective: Objective, *, compiled: bool = False) -> Engine:
        """Return an engine by name for an objective.

        Raises:
            SettingsError: The engine cannot be compiled.
        """

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self.objective.space.dimension,) * 2

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors, which is that of the parameters."""
        return self.objective.runtime.dtype

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self.objective.runtime.device

    @property
    def scale(self) -> Tensor | None:
        """The scale s, shape (P,), of the matrix diag(s) A diag(s); None for the matrix itself."""
        return self._scale

    @property
    def engine(self) -> str:
        """How products are computed, in words, with the result of the verification."""
        kept = f", graphs kept for {len(self._kept)} of {len(self.objective.chunk_sizes)} chunks"
        remark = f" ({self._remark})" if self._remark else ""
        return self._engine.words + remark + self._verdict + kept * (self._engine.keeps and self.products > 0) + self._fallen

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return Av for a vector v (P,), in the operator's type; the sum over data is accumulated in float64."""
        self.products += 1
        parts = self._parts(self._scaled(vector))
        total = self._as_memory_allows(lambda: self._sum(lambda chunk: self._product(chunk, parts), vector))
        if self.products == 1 and not bool(torch.isfinite(total).all()):
            raise not_finite(self._plain_of, self.objective, self._theta, parts)
        self._note_error(vector)
        return self._scaled(total.div_(self.objective.total_weight)).to(self.dtype)

    def blockwise(self, blocks: Sequence[Block], vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return A_bb v_b for several diagonal blocks b, from one pass over the data; it counts as one product for each.

        Each chunk's graph serves all blocks. From it, the product of a block costs at most one product with the whole matrix,
        and less if the block is near the output: half of one on average over the blocks of a deep net.

        Args:
            blocks: The blocks.
            vectors: For each block a vector (n,), n its number of parameters.
        """
        self.products += len(blocks)
        space = self.objective.space
        scales = [None if self._scale is None else block.take(self._scale, space) for block in blocks]
        scaled = [_times(scale, vector).to(self.dtype) for scale, vector in zip(scales, vectors, strict=True)]

        def summand(chunk: Chunk) -> Tensor:
            graph, kept, last = *self._graph(chunk), len(blocks) - 1
            pairs = enumerate(zip(blocks, scaled, strict=True))
            return torch.cat([block.product(graph, own, space, keep=kept or place < last) for place, (block, own) in pairs])

        total = self._as_memory_allows(lambda: self._sum(summand, torch.cat(scaled)))
        self._note_error(vectors[0])
        products = torch.split(total.div_(self.objective.total_weight), [len(vector) for vector in vectors])
        return [_times(scale, product).to(self.dtype) for scale, product in zip(scales, products, strict=True)]

    def quadratic_forms(self, vector: Tensor, *, groups: int, seed: int) -> GroupedProduct:
        """Return Av and the quadratic forms of random groups of samples; this counts as one product.

        No graph is stored for it, and no more samples pass at once than in other products.

        Args:
            vector: v, shape (P,).
            groups: Number of groups, see `Objective.groups`; at most the number of samples.
            seed: Seed of the permutation that divides the samples into groups.
        """
        self.products += 1
        return self._as_memory_allows(lambda: self._grouped(vector, groups, seed))

    def measured_error(self, vector: Tensor, length: float, within: Block | None = None) -> float:
        """Return the norm of the rounding error of Av for a vector v (P,); see `curvature.rounding`.

        It is measured on some samples or, if these contribute less than half of the product, on all samples. It does not
        count as a product.

        Args:
            vector: v.
            length: The approximate ‖Av‖.
            within: The block whose entries of Av count; None for all.
        """
        taken = None if within is None else partial(within.take, space=self.objective.space)
        return self._as_memory_allows(lambda: self._error_of_rounding(vector, length, taken))

    def _error_of_rounding(self, vector: Tensor, length: float, taken: Callable[[Tensor], Tensor] | None) -> float:
        some = self._rounding
        if some is None:
            return 0.0
        error, share = some.difference(vector, self._scale, taken)
        if some.stands_for(length, share):
            return error
        every = rounding.measured(self._plain_of, self.objective, self._theta, whole=True)
        return error if every is None else every.difference(vector, self._scale, taken)[0]

    @cached_property
    def _rounding(self) -> rounding.Rounding | None:
        return rounding.measured(self._plain_of, self.objective, self._theta)

    def _grouped(self, vector: Tensor, groups: int, seed: int) -> GroupedProduct:
        whole = self._scaled(vector).to(self.objective.runtime.accumulator)
        parts = self._parts(whole)
        total, forms, weights = torch.zeros_like(whole), [], []
        for weight, chunks in self.objective.groups(groups, seed):
            product = self._group(chunks, parts).to(whole.dtype)
            total += product
            forms.append(whole @ product)
            weights.append(weight)
        self._note_error(vector)
        both = self.objective.processes.sum(torch.cat([total, torch.stack(forms)]), vector)
        product = self._scaled(both[: len(total)] / self.objective.total_weight).to(self.dtype)
        counts = torch.tensor(weights, dtype=torch.float64)
        return GroupedProduct(product, both[len(total) :].cpu().double() / counts, counts)  # The host waits once.

    def _group(self, chunks: Iterable[Chunk], parts: list[Tensor]) -> Tensor:
        def summand(chunk: Chunk) -> Tensor:
            return self._flatten(self._open(self._plain, chunk).product(parts, keep=False))

        return self.objective.at(self._theta, lambda: self.objective.own_sum(chunks, summand))

    def _sum(self, summand: Callable[[Chunk], Tensor], vector: Tensor) -> Tensor:
        objective = self.objective
        if self._engine.compiled:  # It does not call the model again, and other weights would cause a recompilation.
            return objective.sum_over(objective.chunks(), summand, vector)
        return objective.at(self._theta, lambda: objective.sum_over(objective.chunks(), summand, vector))

    def _product(self, chunk: Chunk, parts: list[Tensor]) -> Tensor:
        """Return the product with the matrix of one chunk of the ordered pass, summed over its loss terms."""
        graph, kept = self._graph(chunk)
        return self._flatten(graph.product(parts, keep=kept))

    def _graph(self, chunk: Chunk) -> tuple[Graph, bool]:
        """Return the graph of a chunk of the ordered pass, and whether it is stored for further products."""
        graph = self._kept.get(chunk.number)
        if graph is None:
            graph = self._open(self._engine, chunk)
            self._kept.offer(chunk, graph)
        return graph, chunk.number in self._kept

    def _plain_of(self, objective: Objective) -> Engine:
        """Return the engine with which all others of this operator are compared, for an objective."""
        return self.make(DIFFERENCE if self.engine_name == DIFFERENCE else PLAIN, objective)

    def _note_error(self, vector: Tensor) -> None:
        """Record the largest error of a product that the engine has measured."""
        if isinstance(self._engine, Difference):
            gap = torch.tensor([self._engine.take_gap()], dtype=torch.float64)
            gap = self.objective.processes.sum(gap, vector.cpu())
            self.product_error = max(self.product_error, float(gap) / self.objective.total_weight)

    def _open(self, engine: Engine, chunk: Chunk) -> Graph:
        return engine.differentiate(chunk, self.objective.leaves(self._theta))

    def _tie(self, name: str, engine: Engine) -> None:
        """Use an engine for the current objective; no graph is stored yet."""
        self.engine_name, self._engine = name, engine
        self._plain = engine if name == DIFFERENCE else self.make(PLAIN, self.objective)
        if isinstance(engine, Difference):
            engine.scale = self._scale
        self._kept = KeptGraphs(self._engine, self.objective, self._theta, self._budget)
        self.__dict__.pop("_rounding", None)  # It is for another number of samples per pass.

    def _use(self, name: str, *, compiled: bool) -> None:
        """Use an engine for all further products if it agrees with double backward."""
        engine, (usable, reason) = self._as_memory_allows(lambda: self._verified(name, compiled=compiled))
        if usable:
            self._verdict = f", {reason}"
            self._tie(name, engine)
        else:
            progress.warn(f"The engine {engine.words} {reason}; {self._plain.words} is used instead.")
            self._fallen = f" ({engine.words} {reason})"

    def _verified(self, name: str, *, compiled: bool) -> tuple[Engine, Verdict]:
        """Return an engine for the current objective, and whether it agrees with double backward."""
        engine = self.make(name, self.objective, compiled=compiled)
        verdict = verify(
            engine,
            lambda objective: self.make(name, objective),
            lambda objective: self.make(PLAIN, objective),
            self.objective,
            self._theta,
        )
        return engine, verdict

    def _as_memory_allows(self, run: Callable[[], _Answer]) -> _Answer:
        while True:
            try:
                return run()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._shrink()

    def _shrink(self) -> None:
        """Store half as many graphs; if none is stored, halve the number of samples per pass."""
        if len(self._kept):
            self._budget = self._kept.held // 2 if self._kept.held else -1  # Some have no countable bytes.
            progress.warn("Not enough memory: fewer graphs are stored, so products take longer.")
        else:
            self.objective = halved(self.objective)
        self._tie(self.engine_name, self.make(self.engine_name, self.objective, compiled=self._engine.compiled))
        self.objective.runtime.free_cached()

    def _scaled(self, vector: Tensor) -> Tensor:
        """Return diag(s) v, in the type of the accumulator; v itself without a scale."""
        return _times(self._scale, vector)

    def _parts(self, vector: Tensor) -> list[Tensor]:
        return list(self.objective.space.split(vector.to(self.dtype)).values())

    def _flatten(self, columns: Sequence[Tensor]) -> Tensor:
        return self.objective.space.flatten(columns)


def _times(scale: Tensor | None, vector: Tensor) -> Tensor:
    return vector if scale is None else scale * vector


def halved(objective: Objective) -> Objective:
    """Return the same mean loss with half as many samples per pass, and write a warning.

    Raises:
        InputError: The number of samples cannot be reduced.
    """
    size = objective.chunk_size
    if size > 1 and objective.bn != "batch":
        progress.warn(f"Not enough memory for {size} samples per pass: continuing with {(size + 1) // 2}.")
        return replace(objective, chunk_size=(size + 1) // 2)
    what = "one sample" if size == 1 else f"one block of {size} samples"
    raise InputError(
        f"There is not enough memory for the second derivative of {what}.",
        "Use a machine with more memory, fewer --params, or a smaller --bn-block.",
    )
