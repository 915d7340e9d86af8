"""What all curvature operators share: products with a symmetric matrix that is a mean over loss terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.chunks import Chunk
from sharpcli.curvature import rounding
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
    """A product with a vector, and what each group of samples has contributed to its quadratic form.

    Attributes:
        product: Av, shape (P,), in the operator's type.
        forms: vᵀA_g v, where A_g is the mean over the loss terms of group g, shape (G,), float64, on the CPU.
        counts: Number of loss terms of each group, shape (G,), on the CPU. Σ counts·forms / Σ counts is vᵀAv.
    """

    product: Tensor
    forms: Tensor
    counts: Tensor


class CurvatureOperator(ABC):
    """A symmetric matrix A(θ) = (1/n) Σ over chunks, as a map on vectors (P,).

    What of a chunk does not depend on the vector (its graph) is kept from product to product as long as memory allows, and
    made afresh otherwise; the answer is the same. Products go by double backward, or by another engine that has just
    agreed with it. Those of `quadratic_forms` always go by double backward, so that what verifies an eigenpair is not what
    found it.

    Where memory runs out, graphs are given up, and then fewer samples pass at once: that changes no answer either.

    Attributes:
        engines: Names of those it has; all are held to double backward, and that to differences.
        engine_name: The one of them in use.
        objective: Mean loss over data.
        products: Number of products so far.
        product_error: The largest error of a product with a unit vector that the engine has measured; 0 where products
            are exact but for rounding.
    """

    engines: ClassVar[tuple[str, ...]] = (PLAIN, "fused", DIFFERENCE)

    def __init__(
        self, objective: Objective, theta: Tensor, *, memory: int | None = None, engine: str = "auto", compiled: bool = False
    ) -> None:
        """Fix the point, and verify the engine.

        Args:
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            memory: Bytes that kept graphs may take. Default: a share of what is free.
            engine: One of `engines`, which falls back with a warning; "auto" is double backward, or differences with a
                warning where that is missing or wrong.
            compiled: Whether it goes through torch.compile.

        Raises:
            InputError: The gradient is not that of the loss, or the engine asked for cannot be right for this model.
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
            SettingsError: It cannot be compiled.
        """

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self.objective.space.dimension,) * 2

    @property
    def dtype(self) -> torch.dtype:
        """Type of the vectors, that of the parameters."""
        return self.objective.runtime.dtype

    @property
    def device(self) -> torch.device:
        """Where the vectors live."""
        return self.objective.runtime.device

    @property
    def engine(self) -> str:
        """How products come about, in words, with what came of verification."""
        kept = f", graphs kept for {len(self._kept)} of {len(self.objective.chunk_sizes)} chunks"
        remark = f" ({self._remark})" if self._remark else ""
        return self._engine.words + remark + self._verdict + kept * (self._engine.keeps and self.products > 0) + self._fallen

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return Av for a vector v (P,), in the operator's type; the sum over data is kept in float64."""
        self.products += 1
        parts = self._parts(vector)
        total = self._as_memory_allows(lambda: self._sum(self.objective.chunks(), lambda chunk: self._product(chunk, parts)))
        if self.products == 1 and not bool(torch.isfinite(total).all()):
            raise not_finite(self._plain_of, self.objective, self._theta, parts)
        self._note_error()
        return total.div_(self.objective.num_terms).to(self.dtype)

    def quadratic_forms(self, vector: Tensor, *, groups: int, seed: int) -> GroupedProduct:
        """Return Av with the quadratic forms of groups of samples drawn at random; it counts as one product.

        No graph is kept for it, and no more samples pass at once than in any other product.

        Args:
            vector: v, shape (P,).
            groups: Number of groups, see `Objective.groups`; at most one a sample.
            seed: Of the permutation that cuts the samples into groups.
        """
        self.products += 1
        return self._as_memory_allows(lambda: self._grouped(vector, groups, seed))

    def measured_error(self, vector: Tensor, length: float) -> float:
        """Return how long the error of Av is for a vector v (P,), as far as rounding makes it; see `curvature.rounding`.

        It is seen on some samples or, where these make less than half of the product, on all. It counts as no product.

        Args:
            vector: v.
            length: ‖Av‖, about.
        """
        return self._as_memory_allows(lambda: self._error_of_rounding(vector, length))

    def _error_of_rounding(self, vector: Tensor, length: float) -> float:
        some = self._rounding
        if some is None:
            return 0.0
        error, share = some.difference(vector)
        if some.stands_for(length, share):
            return error
        every = rounding.measured(self._plain_of, self.objective, self._theta, whole=True)
        return error if every is None else every.difference(vector)[0]

    @cached_property
    def _rounding(self) -> rounding.Rounding | None:
        return rounding.measured(self._plain_of, self.objective, self._theta)

    def _grouped(self, vector: Tensor, groups: int, seed: int) -> GroupedProduct:
        parts, whole = self._parts(vector), vector.to(self.objective.runtime.accumulator)
        total, forms, counts = torch.zeros_like(whole), [], []
        for terms, chunks in self.objective.groups(groups, seed):
            product = self._group(chunks, parts).to(whole.dtype)
            total += product
            forms.append(float(whole @ product) / terms)
            counts.append(terms)
        self._note_error()
        product = (total / self.objective.num_terms).to(self.dtype)
        return GroupedProduct(product, torch.tensor(forms, dtype=torch.float64), torch.tensor(counts))

    def _group(self, chunks: Iterable[Chunk], parts: list[Tensor]) -> Tensor:
        def summand(chunk: Chunk) -> Tensor:
            return self._flatten(self._open(self._plain, chunk).product(parts, keep=False))

        return self.objective.at(self._theta, lambda: self.objective.sum_over(chunks, summand))

    def _sum(self, chunks: Iterable[Chunk], summand: Callable[[Chunk], Tensor]) -> Tensor:
        if self._engine.compiled:  # It calls no part of the model again, and other weights would make it compile again.
            return self.objective.sum_over(chunks, summand)
        return self.objective.at(self._theta, lambda: self.objective.sum_over(chunks, summand))

    def _product(self, chunk: Chunk, parts: list[Tensor]) -> Tensor:
        """Return the product with the matrix of one chunk of the pass in order, summed over its terms."""
        graph = self._kept.get(chunk.number)
        if graph is None:
            graph = self._open(self._engine, chunk)
            self._kept.offer(chunk, graph)
        return self._flatten(graph.product(parts, keep=chunk.number in self._kept))

    def _plain_of(self, objective: Objective) -> Engine:
        """Return the engine that all others of this operator are held to, for an objective."""
        return self.make(DIFFERENCE if self.engine_name == DIFFERENCE else PLAIN, objective)

    def _note_error(self) -> None:
        """Keep the largest error of a product that the engine has measured."""
        if isinstance(self._engine, Difference):
            self.product_error = max(self.product_error, self._engine.take_gap() / self.objective.num_terms)

    def _open(self, engine: Engine, chunk: Chunk) -> Graph:
        return engine.differentiate(chunk, self.objective.leaves(self._theta))

    def _tie(self, name: str, engine: Engine) -> None:
        """Use an engine of the objective as it is now; no graph is kept yet."""
        self.engine_name, self._engine = name, engine
        self._plain = engine if name == DIFFERENCE else self.make(PLAIN, self.objective)
        self._kept = KeptGraphs(self._engine, self.objective, self._theta, self._budget)
        self.__dict__.pop("_rounding", None)  # Of another number of samples at once.

    def _use(self, name: str, *, compiled: bool) -> None:
        """Take an engine for all further products if it agrees with double backward."""
        engine, (usable, reason) = self._as_memory_allows(lambda: self._verified(name, compiled=compiled))
        if usable:
            self._verdict = f", {reason}"
            self._tie(name, engine)
        else:
            progress.warn(f"The engine {engine.words} {reason}; {self._plain.words} is used instead.")
            self._fallen = f" ({engine.words} {reason})"

    def _verified(self, name: str, *, compiled: bool) -> tuple[Engine, Verdict]:
        """Return an engine of the objective as it is now, and whether it agrees with double backward."""
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
        """Keep half as many graphs; where none is kept, let half as many samples pass at once."""
        if len(self._kept):
            self._budget = self._kept.held // 2 if self._kept.held else -1  # Some take nothing that could be counted.
            progress.warn("Not enough memory: fewer graphs are stored, so products take longer.")
        else:
            self.objective = halved(self.objective)
        self._tie(self.engine_name, self.make(self.engine_name, self.objective, compiled=self._engine.compiled))
        self.objective.runtime.free_cached()

    def _parts(self, vector: Tensor) -> list[Tensor]:
        return list(self.objective.space.split(vector).values())

    def _flatten(self, columns: Sequence[Tensor]) -> Tensor:
        return self.objective.space.flatten(columns)


def halved(objective: Objective) -> Objective:
    """Return the same mean loss with half as many samples passing at once, and warn of it.

    Raises:
        InputError: They cannot be fewer.
    """
    size = objective.chunk_size
    if size > 1 and objective.bn != "batch":
        progress.warn(f"Not enough memory for {size} samples per pass: continuing with {(size + 1) // 2}.")
        return replace(objective, chunk_size=(size + 1) // 2)
    what = "one sample" if size == 1 else f"one block of {size} samples"
    raise InputError(
        f"There is not enough memory for the second derivative of {what}.",
        "Use a machine with more, fewer --params, or a smaller --bn-block.",
    )
