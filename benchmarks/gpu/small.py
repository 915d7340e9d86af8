"""What a Lanczos step of a small net takes on a card, and what a CUDA graph of its product would take."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.products import mlp, replace_samples
from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import median, once
from sharpcli.analyses.hessian import largest
from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.krylov import Krylov
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings

SECONDS = 10


def measure(setting: Setting) -> dict[str, Any]:
    """Return seconds of a product, of a step without it, of the whole search, and of a replayed product."""
    problem = mlp(setting)
    where = Runtime(torch.device(setting.device), torch.float32)
    found: dict[str, Any] = {}
    for count in (1000,) if setting.small else (1000, 10_000, 50_000):
        objective = Objective.of(problem.model, problem.inputs, problem.targets, runtime=where, chunk_size=count)
        objective = replace_samples(objective, count)
        theta = objective.parameters()
        row: dict[str, Any] = {}
        for engine in ("double-backward", "fused"):
            operator = operator_of("hessian", objective, theta, engine=engine)
            vector = torch.randn(len(theta), device=setting.device)
            operator @ vector
            product = partial(operator.__matmul__, vector)
            row[f"{engine}, kept"] = median(product, setting.device, repeats=20)
            krylov = Krylov(operator, capacity=60, seed=0)
            steps = [once(krylov.step, setting.device) for _ in range(50)]
            row[f"{engine}, step beside its product"] = sum(steps[10:]) / 40 - row[f"{engine}, kept"]
        settings = HessianSettings(topk=20)
        largest(objective, settings)
        row["search for 20"] = once(partial(largest, objective, settings), setting.device)
        if setting.device.startswith("cuda"):
            row["replayed"] = _replayed(objective, setting)
        found[str(count)] = row
    return found


def _replayed(objective: Objective, setting: Setting) -> float | str:
    """Return the seconds of a product whose kernels are launched as one graph, or why that does not go."""
    try:
        leaves = list(objective.leaves(objective.parameters()).values())
        parts = [torch.randn_like(leaf) for leaf in leaves]
        names = list(objective.space.names)

        def product() -> tuple[torch.Tensor, ...]:
            loss = objective.loss_sum(dict(zip(names, leaves, strict=True)), next(iter(objective.chunks())))
            slopes = torch.autograd.grad(loss, leaves, create_graph=True)
            return torch.autograd.grad(slopes, leaves, parts, materialize_grads=True)

        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                product()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            product()
        return median(graph.replay, setting.device, repeats=20)
    except Exception as error:  # What cannot be captured is a row that says so.
        return f"{type(error).__name__}: {error}"[:200]
