"""Ours, as `sharpcli hessian --topk K` does it: same solver, same tolerance, same confirmation of every index.

Products are those that the operator has counted, for whatever purpose: search, confirmation, verification.
"""

from __future__ import annotations

import torch

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned
from sharpcli.analyses.hessian import largest
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings


def solve(problem: Problem, k: int, seed: int, _tuned: Tuned) -> Answer:
    """Find the eigenpairs; model and data are bound to each other, and the engine is planned, within the clock."""
    return answer(problem, HessianSettings(topk=k, seed=seed), "defaults")


def answer(problem: Problem, settings: HessianSettings, words: str) -> Answer:
    """Find what settings ask for."""
    where = Runtime(problem.inputs.device, torch.float32)
    objective = Objective.of(problem.model, problem.inputs, problem.targets, loss="ce", runtime=where)
    pairs = largest(objective, settings)
    operator = pairs.krylov.operator
    assert isinstance(operator, CurvatureOperator)
    words = f"{words} (tol {settings.tol:g}); {operator.engine}; {sum(pairs.converged)} of {settings.topk} certified"
    return Answer(pairs.values, pairs.vectors, operator.products, words)
