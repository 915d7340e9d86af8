"""Largest eigenvalues of a symmetric operator by Lanczos, with a measured residual for each.

The basis is kept and every new vector is orthogonalised against all of it, so no eigenvalue is
listed twice because orthogonality was lost ("ghosts"). The small tridiagonal problem is solved in
float64 on the CPU. It stops when the residual estimate of *each* wanted eigenvalue is small
against *that* eigenvalue, at two checks in a row that agree, and then multiplies every vector it
returns by the operator once more: the residuals are measured, not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import NumericalError
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.reductions import accumulator_of, combine, dot, norm, project
from sharpcli.runtime import generator

_CHECK_EVERY = 3
_GROWTH = 32  # Rows by which the basis grows: memory follows the steps taken, not the steps allowed.


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Approximate eigenpairs of a symmetric operator, largest first.

    Attributes:
        values: Rayleigh quotients vᵀAv, shape (K,), float64, on the CPU.
        vectors: Unit vectors, shape (K, P).
        residuals: Measured ‖Av - value·v‖, shape (K,). Some exact eigenvalue lies within it of the value.
        converged: Whether each residual is within the tolerance, shape (K,).
        steps: Products spent on the Krylov space; `verifications` more measured the residuals.
        scale: Largest ‖Av‖ that was met, an estimate of ‖A‖.
        history: (steps, estimated residual relative to its eigenvalue, worst of the wanted) at each check.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: tuple[bool, ...]
    steps: int
    verifications: int
    scale: float
    history: tuple[tuple[int, float], ...]


class _Krylov:
    """An orthonormal basis q_1 ... q_m of a Krylov space and the tridiagonal matrix T = QᵀAQ."""

    def __init__(self, operator: SymmetricOperator, seed: int) -> None:
        self.operator = operator
        self.random = generator(seed)
        self.rows = torch.empty(0, operator.shape[0], dtype=operator.dtype, device=operator.device)
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.norm_estimate = 0.0
        self._next: Tensor | None = self._fresh()

    @property
    def size(self) -> int:
        return len(self.diagonal)

    @property
    def basis(self) -> Tensor:
        return self.rows[: self.size]

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space, so that T has the exact spectrum."""
        return self._next is None

    def step(self) -> None:
        """Add one basis vector, at the cost of one product."""
        assert self._next is not None
        self._append(self._next)
        product = self.operator @ self._next
        length = norm(product)
        if not numpy.isfinite(length):
            raise NumericalError(
                f"Hessian-vector product {self.size + 1} is not finite.", "Check the weights, or try --dtype float64."
            )
        self.diagonal.append(dot(self._next, product))
        remainder, beta = self._orthogonalise(product, length)
        self.norm_estimate = max(self.norm_estimate, length)
        if beta <= 10 * torch.finfo(product.dtype).eps * self.norm_estimate:
            # The space is invariant: what is left is in its complement, reached from a new random vector.
            self.off_diagonal.append(0.0)
            self._next = self._fresh()
        else:
            self.off_diagonal.append(beta)
            self._next = remainder / beta

    def ritz(self) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """Return Ritz values (m,), largest first, their residual estimates (m,) and vectors of T (m, m) by row."""
        values, vectors = eigh_tridiagonal(self.diagonal, self.off_diagonal[:-1])
        estimates = numpy.abs(self.off_diagonal[-1] * vectors[-1])
        return values[::-1], estimates[::-1], vectors.T[::-1]

    def _append(self, vector: Tensor) -> None:
        if self.size == len(self.rows):
            grown = min(len(self.rows) + _GROWTH, self.operator.shape[0])
            rows = self.rows.new_empty(grown, self.rows.shape[1])
            rows[: self.size] = self.rows
            self.rows = rows
        self.rows[self.size] = vector

    def _orthogonalise(self, vector: Tensor, length: float) -> tuple[Tensor, float]:
        """Take the basis out of a vector; again where cancellation has left rounding errors behind."""
        while True:
            vector = vector - combine(project(self.basis, vector), self.basis)
            remaining = norm(vector)
            if remaining > 0.7 * length or remaining <= torch.finfo(vector.dtype).eps * self.norm_estimate:
                return vector, remaining
            length = remaining

    def _fresh(self) -> Tensor | None:
        """Return a random unit vector orthogonal to the basis, or None if the basis is complete."""
        if self.size == self.operator.shape[0]:
            return None
        drawn = torch.randn(self.operator.shape[0], generator=self.random, dtype=torch.float64)
        vector = drawn.to(self.operator.dtype).to(self.operator.device)
        vector, length = self._orthogonalise(vector, norm(vector))
        return vector / length


def top_eigenpairs(
    operator: SymmetricOperator, *, count: int, tolerance: float = 1e-3, max_products: int = 200, seed: int = 0
) -> Eigenpairs:
    """Find the algebraically largest eigenvalues of a symmetric operator by Lanczos.

    An eigenvalue of exact multiplicity m may be listed fewer than m times: one Krylov space holds
    one vector of each eigenspace until rounding brings in the others.

    Args:
        operator: Symmetric map on vectors of shape (P,).
        count: K, at most P.
        tolerance: Stop when each residual ‖Av - λv‖ is below tolerance * |λ|. No unit.
        max_products: Most products to spend on the Krylov space; K more verify the result.
        seed: Of the random start.

    Returns:
        K pairs, or as many as `max_products` allows.

    Raises:
        NumericalError: A product is not finite.

    References:
        Golub and Van Loan, Matrix Computations, 4th ed., section 10.1. Daniel, Gragg, Kaufman and
        Stewart 1976 for the second orthogonalisation.
    """
    krylov = _Krylov(operator, seed)
    history: list[tuple[int, float]] = []
    settled: numpy.ndarray | None = None
    with progress.task("Lanczos, at most", total=max_products) as shown:
        while krylov.size < max_products and not krylov.exhausted:
            krylov.step()
            shown.advance(1)
            if krylov.size < min(count + 3, operator.shape[0]) or krylov.size % _CHECK_EVERY:
                continue
            values, estimates, _ = (part[:count] for part in krylov.ritz())
            allowed = _allowed(values, tolerance, krylov.norm_estimate, operator.dtype)
            worst = float((estimates / allowed).max())
            history.append((krylov.size, worst * tolerance))
            shown.advance(0, largest=f"{values[0]:.4g}", residual=f"{worst * tolerance:.1e}")
            if worst <= 1 and settled is not None and bool((numpy.abs(values - settled) <= allowed).all()):
                break
            settled = values if worst <= 1 else None
    return _verified(krylov, count, tolerance, history)


def _allowed(values: numpy.ndarray, tolerance: float, scale: float, dtype: torch.dtype) -> numpy.ndarray:
    """Return the residual allowed for each eigenvalue; near zero no less than rounding in the products."""
    floor = 20 * torch.finfo(dtype).eps * max(scale, torch.finfo(dtype).tiny)
    allowed: numpy.ndarray = numpy.maximum(tolerance * numpy.abs(values), floor)
    return allowed


def _verified(krylov: _Krylov, count: int, tolerance: float, history: list[tuple[int, float]]) -> Eigenpairs:
    """Measure the residual of each wanted pair with one more product."""
    operator, weights = krylov.operator, krylov.ritz()[2][:count]
    vectors, values, residuals = krylov.rows.new_empty(len(weights), operator.shape[0]), [], []
    with progress.task("verify residuals", total=len(weights)) as shown:
        for row, weight in zip(vectors, weights, strict=True):
            vector = combine(torch.from_numpy(weight.copy()).to(accumulator_of(row)).to(row.device), krylov.basis)
            row.copy_(vector / norm(vector))
            product = operator @ row
            values.append(dot(row, product) / dot(row, row))
            residuals.append(norm(product - values[-1] * row))
            shown.advance()
    order = numpy.argsort(values)[::-1].copy()
    found, measured = numpy.array(values)[order], numpy.array(residuals)[order]
    if not (numpy.isfinite(found).all() and numpy.isfinite(measured).all()):
        raise NumericalError("A Hessian-vector product is not finite.", "Check the weights, or try --dtype float64.")
    allowed = _allowed(found, tolerance, krylov.norm_estimate, operator.dtype)
    return Eigenpairs(
        torch.from_numpy(found),
        vectors[torch.from_numpy(order)],
        torch.from_numpy(measured),
        tuple(bool(good) for good in measured <= allowed),
        krylov.size,
        len(values),
        krylov.norm_estimate,
        tuple(history),
    )
