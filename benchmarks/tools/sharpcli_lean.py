"""Ours within a budget for vectors and graphs: `sharpcli hessian --topk K --memory 120MiB`, for the lightest peers."""

from __future__ import annotations

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned
from benchmarks.tools.sharpcli import answer
from sharpcli.settings import HessianSettings

_BUDGET = "120MiB"


def solve(problem: Problem, k: int, seed: int, _tuned: Tuned) -> Answer:
    """Find the eigenpairs."""
    return answer(problem, HessianSettings(topk=k, seed=seed, memory=_BUDGET), f"memory {_BUDGET}")
