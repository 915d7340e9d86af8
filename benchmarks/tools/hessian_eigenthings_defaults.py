"""hessian-eigenthings as it comes: 2k Lanczos steps, whether they suffice or not, and the largest in magnitude."""

from __future__ import annotations

from hessian_eigenthings import lanczos

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned
from benchmarks.tools.hessian_eigenthings import operator_of


def solve(problem: Problem, k: int, seed: int, _tuned: Tuned) -> Answer:
    """Find the eigenpairs; products are counted in the operator."""
    operator = operator_of(problem)
    found = lanczos(operator, k=k, seed=seed)
    words = f"defaults, which is the largest in magnitude; {int(found.converged.sum())} of {k} flagged converged"
    return Answer(found.eigenvalues, found.eigenvectors, operator.products, words, "LM")
