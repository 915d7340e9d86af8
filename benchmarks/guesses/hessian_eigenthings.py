"""How many Lanczos steps hessian-eigenthings has to be given: it does not find out itself."""

from __future__ import annotations

import torch
from hessian_eigenthings import lanczos_tridiagonal
from torch import Tensor

from benchmarks.problem import Problem
from benchmarks.tools import Tuned
from benchmarks.tools.hessian_eigenthings import operator_of

_GUESSES = (1.5, 2, 2.5, 3, 3.5, 4, 5)  # Steps in parts of k; its default is 2.
_GOOD = 1e-4  # Worst relative error of an eigenvalue that is aimed for.
_FLAT = 1.1  # Where float32 sums of the tool do not let it get there: as good as this many times its best.


def guess(problem: Problem, k: int, seed: int, exact: Tensor) -> Tuned:
    """Return the fewest steps of some guesses whose worst eigenvalue is good, or as good as that tool gets.

    One long run tells: fewer steps from the same start make a leading block of its tridiagonal matrix.
    """
    operator = operator_of(problem)
    guesses = [max(round(factor * k), k + 1) for factor in _GUESSES]
    start = torch.randn(operator.size, generator=torch.Generator().manual_seed(seed))
    run = lanczos_tridiagonal(operator, start, guesses[-1], reorthogonalize=True)
    whole = torch.diag(run.alphas) + torch.diag(run.betas, 1) + torch.diag(run.betas, -1)
    errors = {}
    for steps in guesses:
        values = torch.linalg.eigvalsh(whole[:steps, :steps]).flip(0)[:k].double()
        errors[steps] = float(((values - exact).abs() / exact.abs()).max())
    enough = max(_GOOD, _FLAT * min(errors.values()))
    return {"steps": min(steps for steps, error in errors.items() if error <= enough)}
