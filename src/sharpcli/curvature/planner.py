"""Choose the engine and the number of samples per pass: by measurements of the model on this machine, on a few samples."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.curvature.kept import GraphSize
from sharpcli.curvature.operator import CurvatureOperator, halved
from sharpcli.curvature.operators import operator_kind
from sharpcli.curvature.soundness import DIFFERENCE, settle
from sharpcli.errors import SettingsError, is_out_of_memory
from sharpcli.inputs import sample_shapes
from sharpcli.memory import MemoryPlan
from sharpcli.objective import Objective
from sharpcli.trial_passes import num_fusible

_PROBING = 0.03  # Largest share of a run's time for measurements.
_PROBES = 8.0  # Work of measuring two engines on the same samples, in products.
_LEAST = 4  # Samples; with fewer, only overhead is measured.
_SHORT = 3.0  # Seconds; a shorter run is not planned and uses the default engine.
_CLEARLY = 0.95  # An engine replaces another if its time is less than this share of the other's time.
_FLAT = 0.9  # The same for four times as many samples per pass.


class Plan(NamedTuple):
    """How products will be computed.

    Attributes:
        engine: One of the operator's `engines`.
        compiled: Whether the engine uses torch.compile.
        chunk_size: Samples per pass.
        reasons: The choices and their reasons, in sentences.
    """

    engine: str
    compiled: bool
    chunk_size: int
    reasons: tuple[str, ...]


class _Cost(NamedTuple):
    """Seconds per sample: of a first product, which makes the graph, and of a further product."""

    first: float
    further: float


@dataclass(eq=False)
class Planner:
    """Plans operators and stores the plans: checkpoints of one architecture and one number of samples share a plan.

    Attributes:
        engine: One of the operator's `engines`, or "auto" for the engine that is measured to be the fastest.
        compile: "on", "off" or "auto", which is off: in no measurement did compilation save as much time as it took.
        chunk_size: Samples per pass; None to measure it.
    """

    engine: str = "auto"
    compile: str = "auto"
    chunk_size: int | None = None
    _plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)

    def operator(
        self,
        name: str,
        objective: Objective,
        theta: Tensor,
        *,
        products: int,
        memory: int | None = None,
        scale: Tensor | None = None,
    ) -> CurvatureOperator:
        """Return an operator by name at θ.

        Args:
            name: The name of the operator.
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            products: The expected number of products.
            memory: Bytes that graphs may take, with the graph that is being made. Default: a share of the free memory.
            scale: The diagonal of P^{-1/2}, shape (P,), for "preconditioned".

        Raises:
            InputError: The gradient is not that of the loss, or the requested engine cannot be correct for this model.
            SettingsError: There is no operator of that name, or it has no such engine.
        """
        kind = operator_kind(name)
        engine, _ = settle(kind, objective, theta, self.engine)
        if engine == DIFFERENCE:
            return kind(objective, theta, memory=0, engine=engine, scale=scale)
        like = (
            objective.space,
            objective.num_samples,
            sample_shapes(objective.inputs),
            objective.chunk_size,
            objective.bn,
            objective.runtime,
        )
        key = (name, *like, products, memory)
        if key not in self._plans:
            self._plans[key] = self._plan(kind, objective, theta, products, memory)
            for reason in self._plans[key].reasons:
                progress.note(reason)
        plan = self._plans[key]
        planned = replace(objective, chunk_size=plan.chunk_size)
        kept = MemoryPlan(objective.runtime.device).kept_graphs(memory)
        return kind(planned, theta, memory=kept, engine=plan.engine, compiled=plan.compiled, scale=scale)

    def _plan(
        self, kind: type[CurvatureOperator], objective: Objective, theta: Tensor, products: int, memory: int | None
    ) -> Plan:
        if memory is not None and self.chunk_size is None and objective.bn != "batch":
            making = memory - MemoryPlan(objective.runtime.device).kept_graphs(memory)
            objective = _within(making, kind, objective, theta)
        if self.engine != "auto" or self.compile == "on":
            return self._as_told(kind, objective)
        if torch.are_deterministic_algorithms_enabled():
            reason = "Nothing was measured, because --deterministic is given: the default engine."
            return Plan(kind.engines[0], False, objective.chunk_size, (reason,))
        while True:
            try:
                sizes = self.chunk_size is None and objective.bn != "batch"
                return _Probing(kind, objective, theta, products, sizes=sizes).plan()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            objective = halved(objective)
            objective.runtime.free_cached()

    def _as_told(self, kind: type[CurvatureOperator], objective: Objective) -> Plan:
        engine = self.engine
        if engine == "auto":
            if "forward-over-reverse" not in kind.engines:
                raise SettingsError("No engine of this operator can be compiled.", "Leave --compile out.")
            engine = "forward-over-reverse"
        return Plan(engine, self.compile == "on", objective.chunk_size, (f"The engine {engine} was requested.",))


def _within(memory: float, kind: type[CurvatureOperator], objective: Objective, theta: Tensor) -> Objective:
    """Limit the samples per pass to those whose graph fits into memory."""
    fitting = GraphSize.of(kind.make(kind.engines[0], objective), objective, theta).samples(memory)
    return replace(objective, chunk_size=min(objective.chunk_size, fitting))


@dataclass(eq=False)
class _Probing:
    """The measurements of engines and numbers of samples, and the resulting plan."""

    kind: type[CurvatureOperator]
    objective: Objective
    theta: Tensor
    products: int
    sizes: bool
    reasons: list[str] = field(default_factory=list)

    def plan(self) -> Plan:
        objective, plain = self.objective, self.kind.engines[0]
        size = self._affordable()
        with progress.task("planning"):
            cost = self._cost(plain, size)
            seconds = self.products * objective.num_samples * cost.further
            if seconds < _SHORT:
                size = objective.chunk_size
                reason = f"About {seconds:.1g} s of products: the default engine, {plain}, with {size} samples per pass."
                return Plan(plain, False, objective.chunk_size, (reason,))
            engine, cost = self._faster(plain, cost, size)
            chunk_size = self._best_size(engine, cost, size) if self.sizes else objective.chunk_size
        return Plan(engine, False, chunk_size, tuple(self.reasons))

    def _affordable(self) -> int:
        """Return how many samples can be measured without making the run noticeably longer."""
        share = _PROBING * self.products / _PROBES
        return min(self.objective.chunk_size, max(int(share * self.objective.num_samples), _LEAST))

    def _faster(self, plain: str, cost: _Cost, size: int) -> tuple[str, _Cost]:
        try:
            fusible = num_fusible(self.objective) if "fused" in self.kind.engines else 0
            fused = self._cost("fused", size) if fusible else cost
        except Exception as error:  # After any error, the plain engine is used.
            if is_out_of_memory(error):
                raise
            self.reasons.append(f"{plain}: the model does not run with fused kernels.")
            return plain, cost
        if not fusible:
            self.reasons.append(f"{plain}: the model has nothing that fused kernels take over.")
            return plain, cost
        ratio = fused.further / cost.further
        chosen = "fused" if ratio < _CLEARLY else plain
        self.reasons.append(
            f"{chosen}: with fused kernels for {fusible} operations a product over {size} samples takes "
            f"{1e3 * size * fused.further:.3g} ms, without {1e3 * size * cost.further:.3g} ms."
        )
        return (chosen, fused) if chosen == "fused" else (chosen, cost)

    def _best_size(self, engine: str, cost: _Cost, size: int) -> int:
        """Return how many samples should pass at once, from the time of a quarter of the measured samples."""
        most, quarter = self.objective.chunk_size, size // 4
        if quarter < min(_LEAST, most):
            return most
        small = self._cost(engine, quarter).further
        chosen = quarter if small < _CLEARLY * cost.further else size if cost.further > _FLAT * small else most
        self.reasons.append(
            f"{chosen} samples at once: a sample takes {1e3 * small:.3g} ms among {quarter}, "
            f"{1e3 * cost.further:.3g} ms among {size}; memory allows {most}."
        )
        return chosen

    def _cost(self, engine: str, size: int) -> _Cost:
        objective, made = self.objective, self.kind.make(engine, self.objective)
        parts = list(objective.space.split(self.theta).values())
        moments = []
        with objective.arithmetic():
            objective.runtime.synchronize()
            moments.append(time.perf_counter())
            graph = made.differentiate(objective.few(size), objective.leaves(self.theta))
            for keep in (True, True, False):
                objective.space.flatten(graph.product(parts, keep=keep)).to(objective.runtime.accumulator)
                objective.runtime.synchronize()
                moments.append(time.perf_counter())
        first, *further = (later - sooner for sooner, later in itertools.pairwise(moments))
        return _Cost(first / size, min(further) / size)  # The minimum, since other processes may use the machine.
