"""One Hessian-vector product by every engine, beside one gradient and beside what the machine could do at best.

Torch's own ways, as the peers go them, are timed with ours; all within one process, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peak import Rates
from benchmarks.problem import Problem
from sharpcli.curvature.operators import operator_of
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings.hessian import ENGINES

Run = Callable[[Tensor], Tensor]
GRADIENT = "gradient"


@dataclass
class Timing:
    """One engine: its set-up with the first product, then its products, each in seconds."""

    run: Run
    words: str
    set_up: float
    seconds: list[float] = field(default_factory=list)


def measure(problem: Problem, *, rounds: int) -> dict[str, Any]:
    """Time each engine once a round, in turns.

    Returns:
        "engines": a row for each; "peak": the machine's rates; "flops": of one gradient and one product.
    """
    vector = torch.randn(problem.dimension, generator=torch.Generator().manual_seed(0))
    vector /= torch.linalg.vector_norm(vector)
    exact = problem.double().product(kept=False)(vector.double())
    rates, timings, failed = Rates(), {}, []
    for name, prepare in _ways(problem).items():
        try:
            timings[name] = _open(prepare, vector)
        except Exception as error:  # An engine that cannot do a net is a row that says so.
            failed.append({"engine": name, "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"})
    names = list(timings)
    for number in range(rounds):
        rates.look()
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            timings[name].run(vector)
            timings[name].seconds.append(time.perf_counter() - start)
    flops = {"gradient": _flops(lambda: _gradient(problem)), "product": _flops(lambda: timings["kept"].run(vector))}
    gradient = statistics.median(timings[GRADIENT].seconds)
    rows = []
    for name, timing in timings.items():
        limit = rates.seconds(*flops["gradient" if name == GRADIENT else "product"])
        seconds = statistics.median(timing.seconds)
        rows.append(
            {
                "engine": name,
                "words": timing.words,
                "seconds": seconds,
                "seconds_min": min(timing.seconds),
                "seconds_max": max(timing.seconds),
                "set_up_seconds": timing.set_up,
                "gradients": seconds / gradient,
                "limit_seconds": limit,
                "times_limit": seconds / limit,
                "relative_error": None if name == GRADIENT else _off(timing.run(vector), exact),
            }
        )
    named = {what: dict(zip(("matmul", "conv"), counts, strict=True)) for what, counts in flops.items()}
    return {"engines": rows + failed, "peak": rates.to_dict(), "flops": named}


def _ways(problem: Problem) -> dict[str, Callable[[], tuple[Run, str]]]:
    """Return what prepares each engine, by name: torch's three ways, then ours by the names they have there."""

    def ours(engine: str) -> tuple[Run, str]:
        objective = Objective.of(problem.model, problem.inputs, problem.targets, runtime=Runtime.open("cpu"))
        operator = operator_of("hessian", objective, objective.parameters(), engine=engine)
        return operator.__matmul__, operator.engine

    plain: dict[str, Callable[[], tuple[Run, str]]] = {
        GRADIENT: lambda: (lambda _: _gradient(problem), "torch.autograd.grad of the loss, all samples at once"),
        "fresh": lambda: (problem.product(kept=False), "double backward, its graph made anew, as hessian-eigenthings does"),
        "kept": lambda: (problem.product(kept=True), "double backward, its graph kept, as PyHessian does"),
    }
    return plain | {f"sharpcli {engine}": lambda engine=engine: ours(engine) for engine in ENGINES if engine != "auto"}


def _open(prepare: Callable[[], tuple[Run, str]], vector: Tensor) -> Timing:
    start = time.perf_counter()
    run, words = prepare()
    run(vector)
    return Timing(run, words, time.perf_counter() - start)


def _gradient(problem: Problem) -> Tensor:
    return torch.cat([part.reshape(-1) for part in problem.gradient()])


def _flops(run: Callable[[], object]) -> tuple[float, float]:
    """Return the operations in matrix products and in convolutions."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts = {str(operation): number for operation, number in counter.get_flop_counts()["Global"].items()}
    convolutions = sum(number for operation, number in counts.items() if "conv" in operation)
    return float(sum(counts.values()) - convolutions), float(convolutions)


def _off(found: Tensor, exact: Tensor) -> float:
    return float(torch.linalg.vector_norm(found.double() - exact) / torch.linalg.vector_norm(exact))
