"""A Krylov decomposition: an orthonormal basis, the vectors that wait to join it, and the measured products.

For the basis V = (v_1 ... v_m) and the waiting vectors w_1 ... w_q, all orthonormal, every product
is stored completely:

    A v_j = Σ_i H_ij v_i + Σ_i C_ij w_i,        H (m, m),  C (q, m).

With one waiting vector this is Lanczos: H is tridiagonal up to rounding and C has one entry. The
code does not rely on this. So the same code handles a restart from Ritz vectors (Wu and Simon
2000: H is then diagonal with one full row), an invariant space (a new random vector waits), and
a missing vector that is added later. H is stored as measured and never symmetrised: its
asymmetry shows the noise of the products, and a residual from H and C is that of the actual products.
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
from sharpcli.linalg.reductions import accumulator_of, combine, recombine
from sharpcli.linalg.space import Divided, Space
from sharpcli.processes import SOLO, Processes
from sharpcli.runtime import generator

Matrix = NDArray[numpy.float64]
_LINE = 16  # Row lengths in memory are multiples of this, so that every row is aligned.
_SPANNED = 1e-3  # A unit vector with a remainder of at most this length counts as spanned by the others.
_WARM_SHARE = 0.1  # Random part of a warm start.


@dataclass(frozen=True, eq=False)
class Frame:
    """The decomposition without the basis vectors; always replaced as one object, so an interruption cannot damage it.

    Attributes:
        size: m.
        measured: H (m, m).
        coupling: C (q, m).
        waiting: The q vectors (P,) that have not been multiplied yet.
        products: Number of products so far.
        draws: Number of random vectors drawn so far.
        scale: Largest observed ‖Av‖ for a unit vector, an estimate of ‖A‖.
        asymmetry: Largest observed |v_iᵀA v_j - v_jᵀA v_i|.
        orthogonality: Largest |v_iᵀv_j| in the checks so far.
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
        """Ritz values (m,), ascending, residuals of their pairs (m,), and coefficients of the vectors (m, m), by column.

        For y = Vs the residual is ‖Ay - θy‖ = √(‖(H - θ)s‖² + ‖Cs‖²), from the stored products.
        """
        values, weights = numpy.linalg.eigh((self.measured + self.measured.T) / 2)
        outside = numpy.linalg.norm(self.coupling @ weights, axis=0)
        return values, numpy.hypot(self.asymmetric(values, weights), outside), weights

    def asymmetric(self, values: Matrix, weights: Matrix) -> Matrix:
        """Return the noise part ‖(H - θ)s‖ of residuals (K,): zero for a symmetric H, and not reduced by further steps."""
        inside: Matrix = numpy.linalg.norm(self.measured @ weights - weights * values, axis=0)
        return inside

    @property
    def reach(self) -> int:
        """Number of last basis vectors that are coupled to waiting vectors: one in a Lanczos chain, all after a restart."""
        coupled = numpy.flatnonzero(self.coupling.any(axis=0))
        return self.size - int(coupled[0]) if len(coupled) else 0


class Krylov:
    """A growing decomposition of one operator; see the module.

    Attributes:
        frame: The decomposition so far. Never changed in place.
        space: The space of all vectors here. If they are divided over processes, P in the shapes is the share of this process.
        share: Minimum fraction of the start vector's length that is uniformly random (1 without a warm start).
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        *,
        capacity: int,
        seed: int,
        warm: Tensor | None = None,
        processes: Processes = SOLO,
    ) -> None:
        """Reserve room for `capacity` basis vectors and draw the start.

        Args:
            operator: Symmetric map on vectors (P,).
            capacity: Maximum number of basis vectors in memory.
            seed: Seed of all random vectors.
            warm: Vectors (K, P) near which to start, such as the eigenvectors of a similar problem.
            processes: The processes over which all vectors here are divided, each with its share of the P numbers.
        """
        self.space = Space(operator.shape[0], processes)
        self.operator = operator if processes.size == 1 else Divided(operator, self.space)
        self.seed = seed
        self.reserve(capacity)
        self.share = 1.0
        self.frame = self._with_random(Frame(0, numpy.empty((0, 0)), numpy.empty((0, 0)), ()))
        if warm is not None and len(warm):
            self._lean(self.space.own(warm))

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
        """Whether the basis spans the entire space, so that H has the exact spectrum."""
        return not self.frame.waiting

    def reserve(self, capacity: int) -> None:
        """Reserve memory for `capacity` basis vectors; the present basis vectors are lost.

        Most machines allocate memory only when it is written, so unused reserved memory costs nothing.
        """
        length = -(-self.space.width // _LINE) * _LINE
        rows = torch.empty(capacity, length, dtype=self.operator.dtype, device=self.operator.device)
        self.rows = rows[:, : self.space.width]

    def step(self) -> None:
        """Add the first waiting vector to the basis, at the cost of one product.

        Raises:
            NumericalError: The product is not finite.
        """
        frame, size = self.frame, self.size + 1
        others, newest = frame.waiting[1:], self._seated(frame.waiting[0])
        orthogonal = orthogonalised(
            self.operator @ newest,
            [self.rows[:size], *(other.unsqueeze(0) for other in others)],
            near=[1 + frame.reach],  # By symmetry: the basis vectors coupled to waiting ones, and the vector itself.
            out=None if others or size == len(self.rows) else self.rows[size],  # Place of the next basis vector.
            space=self.space,
        )
        beta, scale = require_finite(orthogonal.length, frame.products + 1), max(frame.scale, orthogonal.norm_before)
        column, waits = orthogonal.removed[:size], orthogonal.removed[size:]
        measured = _bordered(frame.measured, frame.coupling[0], column)
        coupling = numpy.column_stack([frame.coupling[1:], waits]) if others else numpy.empty((0, size))
        has_room = size + len(others) < self.dimension
        nothing = negligible_length(self.rows.dtype, scale)
        follows = has_room and beta > nothing
        # A β of the size of rounding may still hide another direction; it is exactly 0 only if the space is full.
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
        # The space is invariant: continue in its complement from a new random vector.
        self.frame = grown if grown.waiting else self._with_random(grown)

    def ritz(self) -> tuple[Matrix, Matrix, Matrix]:
        """Return Ritz values, residuals and coefficients; see `Frame.ritz`."""
        return self.frame.ritz

    def vectors(self, weights: Matrix) -> Tensor:
        """Return the rows (Vs)ᵀ for the columns s of `weights` (m, K), shape (K, P), normalised to unit length."""
        made = combine(self._weights(weights.T), self.basis)
        for row in made:
            row /= self.space.square(row).sqrt()
        return made

    def predicted(self, weights: Matrix) -> Tensor:
        """Return A Vs as a combination of the products made so far, shape (P,)."""
        made = combine(self._weights(self.frame.measured @ weights), self.basis)
        for waiting, factor in zip(self.frame.waiting, self.frame.coupling @ weights, strict=True):
            made += float(factor) * waiting
        return made

    def inspect(self) -> float:
        """Measure orthogonality as the largest |V Vᵀr - r| for random signs r; store and return the maximum so far.

        A pair that is not orthogonal changes two of the m entries by its full inner product.
        """
        random = generator(self.seed, streams.ORTHOGONALITY_SIGNS, self.size)
        signs = torch.randint(0, 2, (self.size,), generator=random) * 2.0 - 1
        signs = signs.to(accumulator_of(self.rows)).to(self.rows.device)
        sums = self.space.project(self.basis, combine(signs, self.basis))
        deviation = float((sums - signs).abs().max()) if self.size else 0.0
        self.frame = replace(self.frame, orthogonality=max(self.frame.orthogonality, deviation))
        return self.frame.orthogonality

    def repeat(self) -> float:
        """Multiply the newest basis vector again, and return the distance between the new and the first product."""
        last = numpy.zeros(self.size)
        last[-1] = 1
        self.frame = replace(self.frame, products=self.frame.products + 1)
        return self.space.norm((self.operator @ self.basis[-1]) - self.predicted(last))

    def restart(self, keep: Matrix) -> None:
        """Check the basis, then replace it by its combinations V·keep, for orthonormal columns `keep` (m, l)."""
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
        """Put a vector (P,) orthogonal to the basis first among the waiting vectors, unless they already span it."""
        frame, blocks = self.frame, [self.basis, *(waiting.unsqueeze(0) for waiting in self.frame.waiting)]
        orthogonal = orthogonalised(vector, blocks, space=self.space)
        if orthogonal.length > _SPANNED:
            coupling = numpy.vstack([numpy.zeros((1, frame.size)), frame.coupling])
            self.frame = replace(frame, waiting=(orthogonal.vector / orthogonal.length, *self._aside()), coupling=coupling)
        self.frame = replace(self.frame, unbroken=False)

    def _seated(self, vector: Tensor) -> Tensor:
        """Store a vector in the row after the basis, and return this row."""
        row = self.rows[self.size]
        if row.data_ptr() != vector.data_ptr():
            row.copy_(vector)
        return row

    def _aside(self) -> tuple[Tensor, ...]:
        """Return copies of the waiting vectors, because one may be stored in the row after the basis, which is needed."""
        return tuple(waiting.clone() for waiting in self.frame.waiting)

    def _with_random(self, frame: Frame) -> Frame:
        """Make a random vector orthogonal to the basis wait, unless the basis spans the entire space."""
        if frame.size >= self.dimension:
            return frame
        random = generator(self.seed, streams.KRYLOV_START, frame.draws)
        vector = random_direction(self.operator, self.rows[: frame.size], random, self.space)
        return replace(frame, waiting=(vector,), coupling=numpy.zeros((1, frame.size)), draws=frame.draws + 1)

    def _lean(self, warm: Tensor) -> None:
        """Move the random start towards the sum of the given vectors; a known fraction of it remains uniformly random."""
        towards = combine(torch.ones(len(warm), dtype=accumulator_of(warm), device=warm.device), warm)
        length = self.space.norm(towards)
        if not length:
            return
        random = self.frame.waiting[0]
        mixed = _WARM_SHARE * random + (1 - _WARM_SHARE) * (towards / length)
        length = self.space.norm(mixed)
        self.share = _WARM_SHARE / length
        self.frame = replace(self.frame, waiting=(mixed / length,))

    def _weights(self, weights: Matrix) -> Tensor:
        return torch.from_numpy(numpy.ascontiguousarray(weights)).to(accumulator_of(self.rows)).to(self.rows.device)


def _bordered(matrix: Matrix, row: Matrix, column: Matrix) -> Matrix:
    """Return a matrix (m+1, m+1) from a matrix (m, m), a last row (m,) and a last column (m+1,)."""
    return numpy.block([[matrix, column[:-1, None]], [row[None, :], column[None, -1:]]])
