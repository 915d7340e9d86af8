"""The truth: eigenvalues by ARPACK on plain double backward in float64, and every answer held to that product.

Nothing of sharpcli computes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from benchmarks.problem import Problem
from benchmarks.tools import Answer

_TOLERANCE = 1e-5  # Of residuals, relative; an eigenvalue's error goes with its square: 1e-10 of it, over the relative gap.
_ALLOWED = 1e-4  # Relative residual of a fresh product, beyond which there is no reference.
_ROUGH = 1e-1  # Of the smallest eigenvalue, which nothing is held to.
_NEAR = 0.8  # Of the k-th eigenvalue, from which on the smallest one may be larger in magnitude.
_SPARE = 10  # Krylov vectors beyond twice the eigenvalues.

Product = Callable[[Tensor], Tensor]


class Spectrum(NamedTuple):
    """Eigenvalues of the float64 Hessian at the float32 weights.

    Attributes:
        values: The k+1 largest, largest first; the last one tells how far the k-th is from the rest.
        worst_residual: Largest ‖Hv - λv‖ / |λ| of a fresh product.
        magnitudes: The k largest in magnitude, in that order: what some tools look for. The same ones as a rule.
        smallest: The most negative eigenvalue, to some percent.
        products: In float64 that the search took.
    """

    values: list[float]
    magnitudes: list[float]
    worst_residual: float
    smallest: float
    products: int


def product_of(problem: Problem) -> Product:
    """Return v -> Hv in float64."""
    return problem.double().product(kept=True)


def spectrum(problem: Problem, k: int, seed: int = 1) -> Spectrum:
    """Find them.

    Raises:
        ArithmeticError: A fresh product does not confirm them.
    """
    multiply, dimension = product_of(problem), problem.dimension
    operator = _Counting(multiply, dimension, torch.float64)
    start = numpy.random.default_rng(seed).standard_normal(dimension)
    steps = min(2 * (k + 1) + _SPARE, dimension)
    values, vectors = eigsh(operator, k=k + 1, which="LA", tol=_TOLERANCE, ncv=steps, v0=start)
    values, vectors = values[::-1], vectors[:, ::-1]
    worst = 0.0
    for vector, value in zip(vectors.T, values, strict=True):
        worst = max(worst, _residual(multiply, torch.from_numpy(vector.copy()), float(value)) / abs(float(value)))
    if not worst <= _ALLOWED:
        raise ArithmeticError(f"The reference has a relative residual of {worst:.1e}.")
    found = [float(value) for value in values]
    rough = _Counting(problem.product(kept=True), dimension, torch.float32)
    smallest = float(eigsh(rough, k=1, which="SA", tol=_ROUGH, v0=start, return_eigenvectors=False)[0])
    magnitudes = found[:k]
    if abs(smallest) > _NEAR * found[k - 1]:
        both = eigsh(operator, k=k, which="LM", tol=_TOLERANCE, ncv=steps, v0=start, return_eigenvectors=False)
        magnitudes = sorted(map(float, both), key=abs, reverse=True)
    return Spectrum(found, magnitudes, worst, smallest, operator.products)


def worst_error(answer: Answer, exact: Tensor) -> float:
    """Return the largest |θ_i - λ_i| / |λ_i| over the i-th of both, in the order of what the tool looks for.

    Args:
        answer: K values.
        exact: The same number of eigenvalues in that order.

    Raises:
        ValueError: The tool has not returned that many.
    """
    found = answer.values.detach().double()
    found = found[(found.abs() if answer.which == "LM" else found).argsort(descending=True)]
    if len(found) != len(exact):
        raise ValueError(f"It returned {len(found)} eigenvalues in place of {len(exact)}.")
    return float(((found - exact).abs() / exact.abs()).max())


def worst_residual(answer: Answer, multiply: Product) -> float | None:
    """Return the largest ‖H v_i - θ_i v_i‖ / |θ_1| in float64, for unit vectors; None if there are no vectors."""
    if answer.vectors is None:
        return None
    values = answer.values.detach().double()
    pairs = zip(answer.vectors, values, strict=True)
    worst = max(_residual(multiply, _flat(vector), float(value)) for vector, value in pairs)
    return worst / float(values.abs().max())


class _Counting(LinearOperator):  # type: ignore[misc]
    """A product as SciPy wants it, with a counter."""

    def __init__(self, multiply: Product, dimension: int, dtype: torch.dtype) -> None:
        super().__init__(numpy.float64, (dimension, dimension))
        self.products, self._multiply, self._dtype = 0, multiply, dtype

    def _matvec(self, vector: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        self.products += 1
        found: NDArray[numpy.float64] = self._multiply(torch.from_numpy(vector.reshape(-1)).to(self._dtype)).double().numpy()
        return found


def _residual(multiply: Product, vector: Tensor, value: float) -> float:
    unit = vector / torch.linalg.vector_norm(vector)
    return float(torch.linalg.vector_norm(multiply(unit) - value * unit))


def _flat(vector: Tensor | Sequence[Tensor]) -> Tensor:
    parts = [vector] if isinstance(vector, Tensor) else vector
    return torch.cat([part.detach().reshape(-1).double() for part in parts])
