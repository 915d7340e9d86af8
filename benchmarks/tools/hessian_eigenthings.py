"""hessian-eigenthings by a user who guesses the number of Lanczos steps right (guesses/), and keeps its reorthogonalisation on.

Products are calls of the operator's `matvec`, counted in it.
"""

from __future__ import annotations

from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
from torch import Tensor

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned


class Counting(HessianOperator):  # type: ignore[misc]
    """Its Hessian, with a counter."""

    products = 0

    def matvec(self, v: Tensor) -> Tensor:
        """Return Hv."""
        self.products += 1
        found: Tensor = super().matvec(v)
        return found


def operator_of(problem: Problem) -> Counting:
    """Return its operator with one batch that holds all samples."""
    return Counting(problem.model, [(problem.inputs, problem.targets)], supervised_loss(problem.criterion))


def solve(problem: Problem, k: int, seed: int, tuned: Tuned) -> Answer:
    """Find the eigenpairs in the number of steps that was guessed."""
    operator, steps = operator_of(problem), int(tuned["steps"])
    found = lanczos(operator, k=k, max_iter=steps, which="LA", seed=seed, reorthogonalize=True)
    words = f"max_iter={steps}, guessed right; reorthogonalize=True; {int(found.converged.sum())} of {k} flagged converged"
    return Answer(found.eigenvalues, found.eigenvectors, operator.products, words)
