"""Whole searches at full size: the 20 largest eigenvalues of ResNet-18 on 10,000 images, the ten largest of the transformer."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.problems import Problem, gpt
from benchmarks.gpu.products import resnet18
from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import once, wait
from benchmarks.progress import tell
from sharpcli.analyses.hessian import largest
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings

SECONDS = 300


def measure(setting: Setting) -> dict[str, Any]:
    """Return seconds, products and eigenvalues of each search."""
    small = setting.small
    found = {}
    for problem, topk in (
        (gpt(setting, 2 if small else 32, 32 if small else 512), 3 if small else 10),
        (resnet18(setting, 32 if small else 10_000), 3 if small else 20),
    ):
        found[problem.name] = _search(problem, topk, setting)
        tell(f"  {found[problem.name]}")
    return found


def _search(problem: Problem, topk: int, setting: Setting) -> dict[str, Any]:
    where = Runtime(torch.device(setting.device), torch.float32)
    answers: list[Eigenpairs] = []

    def run() -> None:
        objective = Objective.of(problem.model, problem.inputs, problem.targets, runtime=where)
        answers.append(largest(objective, HessianSettings(topk=topk, seed=0)))

    if setting.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(setting.device)
    wait(setting.device)
    seconds, pairs = once(run, setting.device), answers[0]
    operator = pairs.krylov.operator
    assert isinstance(operator, CurvatureOperator)
    return {
        "samples": len(problem.inputs),
        "parameters": operator.shape[0],
        "seconds": seconds,
        "products": operator.products,
        "engine": operator.engine,
        "at once": operator.objective.chunk_size,
        "certified": sum(bool(x) for x in pairs.converged),
        "values": pairs.values.tolist(),
        "peak bytes": torch.cuda.max_memory_allocated(setting.device) if setting.device.startswith("cuda") else None,
    }
