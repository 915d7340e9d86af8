"""What a basis has not seen: bounds on the rest of the spectrum, and so intervals by index.

A residual tells that *an* eigenvalue is near. That it is the i-th, and none above it was missed, takes a
bound on the rest. Written in the basis and its complement, the matrix is

    A = [ H   Cᵀ ]     for an orthonormal basis, C its coupling to the waiting vectors,
        [ C   B  ]     B the matrix within the complement.

By Cauchy the i-th eigenvalue of H is no larger than that of A. If no eigenvalue of B exceeds c, then by
Sylvester's law of inertia A has no more eigenvalues above x > c than H + CᵀC / (x - c) has. And c comes
from a Lanczos chain of its own, started at a random vector of the complement (see `ceiling`). A basis that
holds the outliers leaves a complement of small norm, so a few steps are enough.

References: Parlett, The Symmetric Eigenvalue Problem, theorems 10.1.1 (Cauchy) and 3.3.1 (inertia).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from sharpcli.linalg.ceiling import ends_of
from sharpcli.linalg.krylov import Frame, Krylov, Matrix
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.probes import random_direction, require_finite
from sharpcli.linalg.reductions import accumulator_of, combine
from sharpcli.runtime import generator

_STREAM = 4  # Random numbers of their own, as in every other solver.
_EXACT = 1e-12  # Relative accuracy to which bounds are solved for; they are rounded outwards by as much.


class Complement:
    """A Lanczos chain within the complement of a basis that must not change meanwhile.

    Attributes:
        rows: Its vectors (k, P) so far, orthogonal to the basis.
        diagonal, off_diagonal: α_1 ... α_k and β_1 ... β_k.
        waiting: What to multiply next; None once the chain has seen all that its start has a part in.
    """

    def __init__(self, krylov: Krylov, *, capacity: int, attempt: int) -> None:
        """Draw the start, another one for each attempt."""
        self.krylov = krylov
        self.rows = krylov.rows.new_empty(capacity, krylov.dimension)
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.waiting: Tensor | None = None
        if self.dimension:
            random = generator(krylov.seed, _STREAM, attempt)
            self.waiting = random_direction(krylov.operator, krylov.basis, random)

    @property
    def dimension(self) -> int:
        """P - m."""
        return self.krylov.dimension - self.krylov.size

    @property
    def size(self) -> int:
        """Products spent."""
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
        left = orthogonalised(krylov.operator @ self.waiting, blocks, near=[krylov.frame.reach, min(size, 2)])
        beta = require_finite(left.length, krylov.frame.products + size)
        nothing = 10 * torch.finfo(self.rows.dtype).eps * max(krylov.frame.scale, left.whole)
        ends = size == self.dimension or beta <= nothing
        self.waiting = None if ends else left.vector.div_(beta)
        # What is no more than rounding may still hide a neighbour; nothing is left only where the space is full.
        self.off_diagonal.append(0.0 if size == self.dimension else max(beta, nothing))
        self.diagonal.append(float(left.taken[-1]))

    def ritz(self) -> tuple[Matrix, Matrix]:
        """Return Ritz values (k,), ascending, and the weights of their vectors (k, k) by column."""
        values, weights = eigh_tridiagonal(self.diagonal, self.off_diagonal[:-1])
        return values, weights

    def vector(self, weights: Matrix) -> Tensor:
        """Return the vector (P,) of some weights (k,)."""
        held = torch.from_numpy(numpy.ascontiguousarray(weights)).to(accumulator_of(self.rows)).to(self.rows.device)
        return combine(held, self.rows[: self.size])

    def ends(self) -> tuple[float, float]:
        """Return numbers that no eigenvalue within the complement is below, and above, each with probability 0.99."""
        if not self.dimension:
            return numpy.inf, -numpy.inf
        if not self.size:
            return -numpy.inf, numpy.inf
        return ends_of(self.diagonal, self.off_diagonal, dimension=self.dimension)


def by_index(
    frame: Frame, places: Sequence[int], from_top: Sequence[bool], ends: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return an interval for the eigenvalue of the index that each chosen Ritz value has, before noise and rounding.

    Args:
        frame: The decomposition.
        places: Of the chosen ones among its ascending Ritz values.
        from_top: Whether each is counted from the largest eigenvalue (then its lower end is certain) or from the smallest.
        ends: What no eigenvalue within the complement is below and above.
    """
    values, _, weights = frame.ritz
    coupling = frame.coupling @ weights
    found = []
    for place, top in zip(places, from_top, strict=True):
        value = float(values[place])
        if top:
            found.append((value, _bound(values, coupling, ends[1], frame.size - place)))
        else:
            found.append((-_bound(-values[::-1], coupling[:, ::-1], -ends[0], place + 1), value))
    return found


def _bound(values: Matrix, coupling: Matrix, highest: float, index: int) -> float:
    """Return the least x, above `highest`, at which H + CᵀC / (x - c) has fewer than `index` eigenvalues above x.

    Args:
        values: Eigenvalues of H (m,), ascending.
        coupling: C (q, m) in the basis of its eigenvectors.
        highest: c.
        index: 1 for the largest.
    """
    value = float(values[-index])
    if not numpy.isfinite(highest):
        return value if highest < 0 else numpy.inf
    width = max(float(numpy.linalg.norm(coupling)), abs(value), abs(highest))
    low = max(value, highest) + _EXACT * width
    if not width or _count_above(low, values, coupling, highest) < index:
        return low
    step = _EXACT * width
    while _count_above(low + step, values, coupling, highest) >= index:
        low, step = low + step, 4 * step
    while step > _EXACT * width:  # The count falls with x, so halving finds where it falls below the index.
        step /= 2
        low += step * (_count_above(low + step, values, coupling, highest) >= index)
    return low + step


def _count_above(point: float, values: Matrix, coupling: Matrix, highest: float) -> int:
    """Return how many eigenvalues of H + CᵀC / (x - c) are above x: those of H, and positive ones of a small matrix.

    By Haynsworth's inertia additivity, for the Schur complement of H - x in [[H - x, Cᵀ], [C, -(x - c)]].
    """
    gaps = values - point
    gaps[gaps == 0] = -numpy.finfo(float).tiny
    small = -(point - highest) * numpy.eye(len(coupling)) - (coupling / gaps) @ coupling.T
    return int((gaps > 0).sum()) + int((numpy.linalg.eigvalsh(small) > 0).sum())
