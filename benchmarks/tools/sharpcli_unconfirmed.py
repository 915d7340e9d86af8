"""Ours without the products that confirm each index, which no peer has: `sharpcli hessian --topk K --confirm 0`."""

from __future__ import annotations

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned
from benchmarks.tools.sharpcli import answer
from sharpcli.settings import HessianSettings


def solve(problem: Problem, k: int, seed: int, _tuned: Tuned) -> Answer:
    """Find the eigenpairs."""
    return answer(problem, HessianSettings(topk=k, seed=seed, confirm=0), "confirm 0")
