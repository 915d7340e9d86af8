"""The complement of a basis: bounds on the remaining spectrum, and so counts of eigenvalues (see `ranks`).

A residual shows that *an* eigenvalue is near. To show that it is the i-th eigenvalue, and that none above it
was missed, a bound on the remaining spectrum is necessary. In the basis and its complement, the matrix is

    A = [ H   Cᵀ ]     for an orthonormal basis, C its coupling to the waiting vectors,
        [ C   B  ]     B the matrix within the complement.

By Cauchy, the i-th eigenvalue of H is at most that of A. If no eigenvalue of B exceeds c, then by
Sylvester's law of inertia A has at most as many eigenvalues above x > c as H + CᵀC / (x - c) has. The bound c
comes from a separate Lanczos chain, started at a random vector of the complement (see `ceiling`). If the basis
contains the outliers, the complement has a small norm, so a few steps are enough.

References: Parlett, The Symmetric Eigenvalue Problem, theorems 10.1.1 (Cauchy) and 3.3.1 (inertia).
"""

from __future__ import annotations

import numpy
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from sharpcli import streams
from sharpcli.linalg.ceiling import ends_of
from sharpcli.linalg.krylov import Krylov, Matrix
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.probes import negligible_length, random_direction, require_finite
from sharpcli.linalg.reductions import accumulator_of, combine
from sharpcli.runtime import generator

_FAST = 0.5  # Another step is taken while a step reduces the gap between bound and Ritz value to this fraction.


class Complement:
    """A Lanczos chain within the complement of a basis; the basis must not change during the chain.

    Attributes:
        rows: Its vectors (k, P) so far, orthogonal to the basis.
        diagonal, off_diagonal: α_1 ... α_k and β_1 ... β_k.
        waiting: The next vector to multiply; None if the chain spans an invariant space.
    """

    def __init__(self, krylov: Krylov, *, capacity: int, attempt: int, planned: int | None = None) -> None:
        """Draw the start, a different vector for each attempt.

        Args:
            krylov: The decomposition whose basis defines the complement.
            capacity: Maximum number of steps.
            attempt: Number of the attempt.
            planned: Steps to take; more only while the bounds still decrease fast. Default: the capacity.
        """
        self.krylov = krylov
        self.planned = capacity if planned is None else planned
        self.rows = krylov.rows.new_empty(capacity, krylov.space.width)
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.waiting: Tensor | None = None
        if self.dimension:
            random = generator(krylov.seed, streams.COMPLEMENT_START, attempt)
            self.waiting = random_direction(krylov.operator, krylov.basis, random, krylov.space)

    @property
    def dimension(self) -> int:
        """P - m."""
        return self.krylov.dimension - self.krylov.size

    @property
    def size(self) -> int:
        """Number of products spent."""
        return len(self.diagonal)

    def step(self) -> None:
        """Take one step, at the cost of one product.

        Raises:
            NumericalError: The product is not finite.
        """
        assert self.waiting is not None
        size, krylov = self.size + 1, self.krylov
        self.rows[size - 1] = self.waiting
        blocks = [krylov.basis, self.rows[:size]]
        near = [krylov.frame.reach, min(size, 2)]
        orthogonal = orthogonalised(krylov.operator @ self.waiting, blocks, near=near, space=krylov.space)
        beta = require_finite(orthogonal.length, krylov.frame.products + size)
        nothing = negligible_length(self.rows.dtype, max(krylov.frame.scale, orthogonal.norm_before))
        ends = size == self.dimension or beta <= nothing
        self.waiting = None if ends else orthogonal.vector.div_(beta)
        # A residual of the size of rounding may still hide another direction; it is exactly 0 only if the space is full.
        self.off_diagonal.append(0.0 if size == self.dimension else max(beta, nothing))
        self.diagonal.append(float(orthogonal.removed[-1]))

    def ritz(self) -> tuple[Matrix, Matrix]:
        """Return the Ritz values (k,), ascending, and the coefficients of their vectors (k, k), by column."""
        values, weights = eigh_tridiagonal(self.diagonal, self.off_diagonal[:-1])
        return values, weights

    def vector(self, weights: Matrix) -> Tensor:
        """Return the combination (P,) of the chain's vectors with given coefficients (k,)."""
        held = torch.from_numpy(numpy.ascontiguousarray(weights)).to(accumulator_of(self.rows)).to(self.rows.device)
        return combine(held, self.rows[: self.size])

    def is_spent(self, ends: tuple[bool, bool]) -> bool:
        """Return whether no further step is useful for the bounds at the requested (lower, upper) ends."""
        if self.waiting is None or self.size >= len(self.rows):
            return True
        if self.size < self.planned:
            return False
        gaps = []
        for size in (self.size - 1, self.size):
            diagonal, off_diagonal = self.diagonal[:size], self.off_diagonal[:size]
            low, high = ends_of(diagonal, off_diagonal, dimension=self.dimension)
            seen = eigh_tridiagonal(diagonal, off_diagonal[:-1], eigvals_only=True)
            gaps.append((seen[0] - low, high - seen[-1]))
        return not any(now <= _FAST * before for before, now, asked in zip(*gaps, ends, strict=True) if asked)

    def ends(self) -> tuple[float, float]:
        """Return a lower and an upper bound on the eigenvalues within the complement, each with probability 0.99."""
        if not self.dimension:
            return numpy.inf, -numpy.inf
        if not self.size:
            return -numpy.inf, numpy.inf
        return ends_of(self.diagonal, self.off_diagonal, dimension=self.dimension)


def count_above(point: float, values: Matrix, coupling: Matrix, highest: float) -> int:
    """Return the number of eigenvalues of H + CᵀC / (x - c) above x: those of H plus the positive ones of a small matrix.

    This is Haynsworth's inertia additivity, for the Schur complement of H - x in [[H - x, Cᵀ], [C, -(x - c)]].
    """
    gaps = values - point
    gaps[gaps == 0] = -numpy.finfo(float).tiny
    small = -(point - highest) * numpy.eye(len(coupling)) - (coupling / gaps) @ coupling.T
    return int((gaps > 0).sum()) + int((numpy.linalg.eigvalsh(small) > 0).sum())
