"""Stochastic Lanczos quadrature of one probe, and the density that several probes make.

Every probe runs the three-term recurrence without reorthogonalisation. The loss of orthogonality costs more
steps but does not make the result wrong: it is the quadrature of a measure near that of the probe, which is
enough for a density (Greenbaum 1989).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from sharpcli.linalg.certify import rounding_of
from sharpcli.linalg.operator import SymmetricOperator, product_error
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.probes import negligible_length
from sharpcli.linalg.reductions import dot
from sharpcli.linalg.spectral_density import Array, SpectralDensity

_NEGLIGIBLE = 1e-16  # Lost to rounding if added to 1.


class Quadrature:
    """The tridiagonal matrix of one probe, one product a step, without a stored basis.

    Attributes:
        ended: Whether the Krylov space is invariant, so that a further step adds nothing.
    """

    def __init__(self, operator: SymmetricOperator, basis: Tensor, scale: float) -> None:
        """Start without a vector.

        Args:
            operator: Gives the type of the vectors.
            basis: Known orthonormal eigenvectors (K, P), to which all vectors are made orthogonal.
            scale: The largest magnitude of a known eigenvalue.
        """
        self.ended = False
        self._operator, self._basis, self._scale = operator, basis, scale
        self._diagonal: list[float] = []
        self._off_diagonal: list[float] = []
        self._previous = self._current = basis.new_zeros(0)

    def __len__(self) -> int:
        """Return the number of steps so far."""
        return len(self._diagonal)

    @property
    def current(self) -> Tensor:
        """The unit vector (P,) of the next product."""
        return self._current

    def begin(self, vector: Tensor) -> None:
        """Set the unit vector (P,) of the first product."""
        self._current, self._previous = vector, torch.zeros_like(vector)

    def step(self, multiply: Callable[[Tensor], tuple[Tensor, float]]) -> None:
        """Take one step with a function that returns the product with a vector (P,), and the length of the product."""
        current, previous = self._current, self._previous
        product, length = multiply(current)
        self._scale = max(self._scale, length)
        self._diagonal.append(dot(current, product))
        # The memory of the previous vector is reused for the next vector.
        previous.mul_(-self._off_diagonal[-1] if self._off_diagonal else 0.0).add_(product)
        del product
        previous.sub_(current, alpha=self._diagonal[-1])
        orthogonal = orthogonalised(previous, [self._basis], out=previous)
        beta = orthogonal.length
        # Rounding in the product is relative to the norm of the entire operator, even if the remainder is small.
        if beta <= negligible_length(current.dtype, self._scale):
            self.ended = True
            return
        self._off_diagonal.append(beta)
        self._previous, self._current = current, orthogonal.vector.div_(beta)

    def rule(self) -> tuple[Array, Array, Array]:
        """Return the nodes (m,) of the quadrature, their weights (with sum 1), and their residuals."""
        values, vectors = eigh_tridiagonal(self._diagonal, self._off_diagonal[: len(self._diagonal) - 1])
        weights: Array = vectors[0] ** 2
        # Without a last beta the space is invariant, and every node an eigenvalue.
        last = self._off_diagonal[-1] if len(self._off_diagonal) == len(self._diagonal) else 0.0
        return self._distinct(values, weights / weights.sum(), numpy.abs(last * vectors[-1]))

    def _distinct(self, values: Array, weights: Array, residuals: Array) -> tuple[Array, Array, Array]:
        """Merge nodes that differ by rounding only, and drop nodes without mass.

        Such nodes appear if a recurrence continues beyond an invariant space, or loses orthogonality
        to an eigenvector that it has already found. Neither step moves any mass by more than rounding.
        """
        apart = numpy.diff(values) > 100 * torch.finfo(self._operator.dtype).eps * self._scale
        starts = numpy.concatenate([[0], numpy.flatnonzero(apart) + 1])
        mass = numpy.add.reduceat(weights, starts)
        kept = mass > _NEGLIGIBLE
        centre = numpy.add.reduceat(weights * values, starts)[kept] / mass[kept]
        return centre, mass[kept], numpy.minimum.reduceat(residuals, starts)[kept]


def least_reach(operator: SymmetricOperator, places: Array, error: float) -> float:
    """Return the error from noise and rounding that is allowed for every node."""
    scale = float(numpy.abs(places).max(initial=0))
    return max(rounding_of(operator.dtype, scale, size=operator.shape[0]) + product_error(operator), error)


def assembled(
    nodes: list[Array], weights: list[Array], reaches: list[Array], labels: list[int], size: int, products: int
) -> SpectralDensity:
    """Return the density with the masses of all probes, sorted by position."""
    place, mass = numpy.concatenate(nodes), numpy.concatenate(weights)
    probe = numpy.repeat(numpy.array(labels, dtype=numpy.int64), [len(part) for part in nodes])
    order = numpy.argsort(place, kind="stable")
    reach, place = numpy.concatenate(reaches)[order], place[order]
    off = reach.min(initial=numpy.inf)  # The smallest reach is the allowance for noise and rounding.
    return SpectralDensity(place, mass[order] / mass.sum(), probe[order], reach, place - off, place + off, size, products)
