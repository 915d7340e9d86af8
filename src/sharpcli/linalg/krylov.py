"""An orthonormal basis, the vectors waiting to join it, and what the operator was measured to do to it.

For the basis V = (v_1 ... v_m) and the waiting vectors w_1 ... w_q, all orthonormal, every product
that was made is kept in full:

    A v_j = Σ_i H_ij v_i + Σ_i C_ij w_i,        H (m, m),  C (q, m).

With one waiting vector this is Lanczos: H is tridiagonal up to rounding and C has one entry. But
nothing below relies on that, so that the same few lines serve a restart from Ritz vectors
(Wu and Simon 2000: H is then diagonal with one full row), an invariant space (a fresh random
vector waits), and a vector that was found to be missing. H is measured, never symmetrised: how far
it is from symmetric tells how noisy the products are, and a residual computed from H and C is
that of the products as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli import streams
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.probes import negligible_length, random_direction, require_finite
from sharpcli.linalg.reductions import accumulator_of, combine, norm, project, recombine, square
from sharpcli.runtime import generator

Matrix = NDArray[numpy.float64]
_LINE = 16  # Numbers to a multiple of which a row is long, so that kernels find every row aligned in memory.
_SPANNED = 1e-3  # Length of what is left of a unit vector that others span, up to what need not be followed.
_WARM_SHARE = 0.1  # Part of a warm start that is random.


@dataclass(frozen=True, eq=False)
class Frame:
    """All of the decomposition but the basis vectors themselves; replaced whole, so that an interruption cannot halve it.

    Attributes:
        size: m.
        measured: H (m, m).
        coupling: C (q, m).
        waiting: The q vectors (P,) that a product has led to and that have not been multiplied yet.
        products: Products made so far.
        draws: Random vectors drawn so far.
        scale: Largest ‖Av‖ met for a unit vector, an estimate of ‖A‖.
        asymmetry: Largest |v_iᵀA v_j - v_jᵀA v_i| met.
        orthogonality: Largest |v_iᵀv_j| met where it was looked at.
        diagonal, off_diagonal: α_1 ... α_k and β_1 ... β_k of the first, unbroken Lanczos chain.
        unbroken: Whether that chain still grows.
    """

    size: int
    measured: Matrix
    coupling: Matrix
    waiting: tuple[Tensor, ...]
    products: int = 0
    draws: int = 0
    scale: float = 0.0
    asymmetry: float = 0.0
    orthogonality: float = 0.0
    diagonal: tuple[float, ...] = ()
    off_diagonal: tuple[float, ...] = ()
    unbroken: bool = True

    @cached_property
    def ritz(self) -> tuple[Matrix, Matrix, Matrix]:
        """Ritz values (m,), ascending, the residuals of their pairs (m,) and the vectors' weights (m, m) by column.

        ‖Ay - θy‖ of y = Vs is that of the products made, ‖(H - θ)s‖ and ‖Cs‖ together.
        """
        values, weights = numpy.linalg.eigh((self.measured + self.measured.T) / 2)
        outside = numpy.linalg.norm(self.coupling @ weights, axis=0)
        return values, numpy.hypot(self.asymmetric(values, weights), outside), weights

    def asymmetric(self, values: Matrix, weights: Matrix) -> Matrix:
        """Return the part ‖(H - θ)s‖ of residuals (K,) that is noise: zero for a symmetric H, and no step makes it less."""
        inside: Matrix = numpy.linalg.norm(self.measured @ weights - weights * values, axis=0)
        return inside

    @property
    def reach(self) -> int:
        """How many of the last basis vectors the waiting ones are coupled to: one in a Lanczos chain, all after a restart."""
        coupled = numpy.flatnonzero(self.coupling.any(axis=0))
        return self.size - int(coupled[0]) if len(coupled) else 0


class Krylov:
    """A growing decomposition of one operator; see the module.

    Attributes:
        frame: What is known so far. Never changed in place.
        share: Least part of the start vector's length that is random in every direction (1 without a warm start).
    """

    def __init__(self, operator: SymmetricOperator, *, capacity: int, seed: int, warm: Tensor | None = None) -> None:
        """Reserve room for `capacity` basis vectors and draw the start.

        Args:
            operator: Symmetric map on vectors (P,).
            capacity: Most basis vectors to hold at once.
            seed: Of every random vector.
            warm: Vectors (K, P) to start near to, such as the eigenvectors of a neighbouring problem.
        """
        self.operator = operator
        self.seed = seed
        self.reserve(capacity)
        self.share = 1.0
        self.frame = self._with_random(Frame(0, numpy.empty((0, 0)), numpy.empty((0, 0)), ()))
        if warm is not None and len(warm):
            self._lean(warm)

    @property
    def size(self) -> int:
        """Number of basis vectors, m."""
        return self.frame.size

    @property
    def dimension(self) -> int:
        """P."""
        return self.operator.shape[0]

    @property
    def basis(self) -> Tensor:
        """The basis vectors as rows (m, P)."""
        return self.rows[: self.size]

    @property
    def is_full(self) -> bool:
        """Whether no basis vector can be added before a restart."""
        return self.size == len(self.rows)

    @property
    def is_complete(self) -> bool:
        """Whether the basis spans the whole space, so that H has the exact spectrum."""
        return not self.frame.waiting

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` basis vectors; those that are held are lost.

        Memory that is never written to is never taken on most machines, so room for all costs nothing before it is used.
        """
        length = -(-self.dimension // _LINE) * _LINE
        rows = torch.empty(capacity, length, dtype=self.operator.dtype, device=self.operator.device)
        self.rows = rows[:, : self.dimension]

    def step(self) -> None:
        """Take the vector that has waited longest into the basis, at the cost of one product.

        Raises:
            NumericalError: The product is not finite.
        """
        frame, size = self.frame, self.size + 1
        others, newest = frame.waiting[1:], self._seated(frame.waiting[0])
        orthogonal = orthogonalised(
            self.operator @ newest,
            [self.rows[:size], *(other.unsqueeze(0) for other in others)],
            near=[1 + frame.reach],  # What the waiting ones are coupled to, by symmetry, and the vector itself.
            out=None if others or size == len(self.rows) else self.rows[size],  # Where the next basis vector is to be.
        )
        beta, scale = require_finite(orthogonal.length, frame.products + 1), max(frame.scale, orthogonal.norm_before)
        column, waits = orthogonal.removed[:size], orthogonal.removed[size:]
        measured = _bordered(frame.measured, frame.coupling[0], column)
        coupling = numpy.column_stack([frame.coupling[1:], waits]) if others else numpy.empty((0, size))
        has_room = size + len(others) < self.dimension
        nothing = negligible_length(self.rows.dtype, scale)
        follows = has_room and beta > nothing
        # A β that is no more than rounding may hide a neighbour; nothing is left only where the space is full.
        last = beta if follows else max(beta, nothing) if has_room else 0.0
        if follows:
            others = (*others, orthogonal.vector.div_(beta))
            coupling = numpy.vstack([coupling, numpy.eye(1, size, size - 1) * beta])
        grown = replace(
            frame,
            size=size,
            measured=measured,
            coupling=coupling,
            waiting=others,
            products=frame.products + 1,
            scale=scale,
            asymmetry=max(
                frame.asymmetry, float(numpy.abs(orthogonal.components[: size - 1] - frame.coupling[0]).max(initial=0))
            ),
            diagonal=(*frame.diagonal, float(column[-1])) if frame.unbroken else frame.diagonal,
            off_diagonal=(*frame.off_diagonal, last) if frame.unbroken else frame.off_diagonal,
            unbroken=frame.unbroken and follows,
        )
        # An invariant space: what is left is its complement, reached from a new random vector.
        self.frame = grown if grown.waiting else self._with_random(grown)

    def ritz(self) -> tuple[Matrix, Matrix, Matrix]:
        """Return Ritz values, residuals and weights; see `Frame.ritz`."""
        return self.frame.ritz

    def vectors(self, weights: Matrix) -> Tensor:
        """Return the rows (Vs)ᵀ for the columns s of weights (m, K), shape (K, P), of unit length."""
        made = combine(self._weights(weights.T), self.basis)
        for row in made:
            row /= square(row).sqrt()
        return made

    def predicted(self, weights: Matrix) -> Tensor:
        """Return what the products made so far say that A Vs is, shape (P,)."""
        made = combine(self._weights(self.frame.measured @ weights), self.basis)
        for waiting, factor in zip(self.frame.waiting, self.frame.coupling @ weights, strict=True):
            made += float(factor) * waiting
        return made

    def inspect(self) -> float:
        """Look at all pairs at once: how far V Vᵀr is from r for random signs r; remember the worst and return it.

        One pair that is not orthogonal shows with its full size in two of the m entries.
        """
        random = generator(self.seed, streams.ORTHOGONALITY_SIGNS, self.size)
        signs = torch.randint(0, 2, (self.size,), generator=random) * 2.0 - 1
        signs = signs.to(accumulator_of(self.rows)).to(self.rows.device)
        deviation = float((project(self.basis, combine(signs, self.basis)) - signs).abs().max()) if self.size else 0.0
        self.frame = replace(self.frame, orthogonality=max(self.frame.orthogonality, deviation))
        return self.frame.orthogonality

    def repeat(self) -> float:
        """Multiply the newest basis vector once more, and return how far the product is from the first one."""
        last = numpy.zeros(self.size)
        last[-1] = 1
        self.frame = replace(self.frame, products=self.frame.products + 1)
        return norm((self.operator @ self.basis[-1]) - self.predicted(last))

    def restart(self, keep: Matrix) -> None:
        """Replace the basis by its combinations V·keep, for orthonormal columns `keep` (m, l), once it has been inspected."""
        self.inspect()
        waiting = self._aside()
        recombine(self._weights(keep.T), self.basis)
        frame = self.frame
        self.frame = replace(
            frame,
            size=keep.shape[1],
            measured=keep.T @ frame.measured @ keep,
            coupling=frame.coupling @ keep,
            waiting=waiting,
            unbroken=False,
        )

    def inject(self, vector: Tensor) -> None:
        """Let a vector (P,) orthogonal to the basis wait first, or nothing if those that wait span it already."""
        frame, blocks = self.frame, [self.basis, *(waiting.unsqueeze(0) for waiting in self.frame.waiting)]
        orthogonal = orthogonalised(vector, blocks)
        if orthogonal.length > _SPANNED:
            coupling = numpy.vstack([numpy.zeros((1, frame.size)), frame.coupling])
            self.frame = replace(frame, waiting=(orthogonal.vector / orthogonal.length, *self._aside()), coupling=coupling)
        self.frame = replace(self.frame, unbroken=False)

    def _seated(self, vector: Tensor) -> Tensor:
        """Return the row that follows the basis, with a vector in it."""
        row = self.rows[self.size]
        if row.data_ptr() != vector.data_ptr():
            row.copy_(vector)
        return row

    def _aside(self) -> tuple[Tensor, ...]:
        """Return the waiting vectors where no row is: one that waits in the row that follows must leave it to another."""
        return tuple(waiting.clone() for waiting in self.frame.waiting)

    def _with_random(self, frame: Frame) -> Frame:
        """Let a random vector orthogonal to the basis wait, if there is room for one in the space."""
        if frame.size >= self.dimension:
            return frame
        random = generator(self.seed, streams.KRYLOV_START, frame.draws)
        vector = random_direction(self.operator, self.rows[: frame.size], random)
        return replace(frame, waiting=(vector,), coupling=numpy.zeros((1, frame.size)), draws=frame.draws + 1)

    def _lean(self, warm: Tensor) -> None:
        """Turn the random start towards the sum of given vectors; keep a known share of it random in every direction."""
        towards = combine(torch.ones(len(warm), dtype=accumulator_of(warm), device=warm.device), warm)
        length = norm(towards)
        if not length:
            return
        random = self.frame.waiting[0]
        mixed = _WARM_SHARE * random + (1 - _WARM_SHARE) * (towards / length)
        self.share = _WARM_SHARE / norm(mixed)
        self.frame = replace(self.frame, waiting=(mixed / norm(mixed),))

    def _weights(self, weights: Matrix) -> Tensor:
        return torch.from_numpy(numpy.ascontiguousarray(weights)).to(accumulator_of(self.rows)).to(self.rows.device)


def _bordered(matrix: Matrix, row: Matrix, column: Matrix) -> Matrix:
    """Return a matrix (m+1, m+1) from one (m, m), a last row (m,) and a last column (m+1,)."""
    return numpy.block([[matrix, column[:-1, None]], [row[None, :], column[None, -1:]]])
