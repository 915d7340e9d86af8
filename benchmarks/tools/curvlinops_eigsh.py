"""curvlinops' Hessian in SciPy's ARPACK, as curvlinops' documentation has it.

Products are the columns that the operator is multiplied with, counted in the operator itself.
"""

from __future__ import annotations

import numpy
import torch
from curvlinops import HessianLinearOperator
from scipy.sparse.linalg import eigsh
from torch import Tensor

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned

_TOLERANCE = 1e-3  # The error of an eigenvalue goes with its square.


class _Counting(HessianLinearOperator):  # type: ignore[misc]
    products = 0

    def _matmat(self, columns: list[Tensor]) -> list[Tensor]:
        self.products += columns[0].shape[-1]
        found: list[Tensor] = super()._matmat(columns)
        return found


def solve(problem: Problem, k: int, seed: int, _tuned: Tuned) -> Answer:
    """Find the eigenpairs; the check that products are deterministic, which costs two, is turned off."""
    batch = [(problem.inputs, problem.targets)]
    operator = _Counting(problem.model, problem.criterion, problem.parameters, batch, check_deterministic=False)
    start = numpy.random.default_rng(seed).standard_normal(problem.dimension)
    values, vectors = eigsh(operator.to_scipy(), k=k, which="LA", tol=_TOLERANCE, v0=start)
    return Answer(torch.from_numpy(values), torch.from_numpy(vectors.T), operator.products, f"eigsh, tol {_TOLERANCE:g}")
