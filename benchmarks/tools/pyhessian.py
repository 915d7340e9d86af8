"""PyHessian as it comes: power iteration with deflation, on one batch, whose gradient graph it keeps.

Products are calls of its `hessian_vector_product`, which is all that multiplies there.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import torch

from benchmarks.problem import Problem
from benchmarks.tools import Answer, Tuned

theirs: Any = import_module("pyhessian.hessian")  # The package hides this module behind a class of the same name.


def solve(problem: Problem, k: int, _seed: int, _tuned: Tuned) -> Answer:
    """Find the eigenpairs; its random starts come from torch's global generator, which the worker seeds."""
    products, multiply = 0, theirs.hessian_vector_product

    def counting(*arguments: object) -> object:
        nonlocal products
        products += 1
        return multiply(*arguments)

    theirs.hessian_vector_product = counting
    with warnings.catch_warnings():  # Of the cycle that backward(create_graph=True) makes.
        warnings.simplefilter("ignore")
        computer = theirs.hessian(problem.model, problem.criterion, data=(problem.inputs, problem.targets), cuda=False)
    values, vectors = computer.eigenvalues(top_n=k)
    return Answer(
        torch.tensor(values, dtype=torch.float64), vectors, products, "defaults (tol 1e-3), the largest in magnitude", "LM"
    )
