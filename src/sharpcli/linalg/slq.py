"""Spectral density of a symmetric operator by stochastic Lanczos quadrature, without a stored basis.

Every probe runs the three-term recurrence without reorthogonalisation. The loss of orthogonality costs more
steps but does not make the result wrong: it is the quadrature of a measure near that of the probe, which is
enough for a density (Greenbaum 1989). Known eigenvalues are deflated first, each with its exact share.
"""

from __future__ import annotations

import numpy
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.errors import SettingsError
from sharpcli.linalg.certify import rounding_of
from sharpcli.linalg.operator import SymmetricOperator, product_error
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.probes import finite_product, negligible_length, orthonormal_complement, random_direction
from sharpcli.linalg.reductions import accumulator_of, dot, project
from sharpcli.linalg.spectral_density import Array, SpectralDensity
from sharpcli.runtime import generator

_NEGLIGIBLE = 1e-16  # Lost to rounding if added to 1.


def spectral_density(
    operator: SymmetricOperator,
    *,
    probes: int = 6,
    steps: int = 40,
    values: Array | None = None,
    vectors: Tensor | None = None,
    seed: int = 0,
    error: float = 0.0,
) -> SpectralDensity:
    """Estimate the spectral density by stochastic Lanczos quadrature, with known eigenpairs deflated.

    Each known eigenvalue has mass 1/P. The remaining (P - K)/P is shared equally by probes from the
    unit sphere of the complement: for probe u with the tridiagonal matrix T, the nodes are the eigenvalues
    of T, and the weights are the squared first components of its eigenvectors. The recurrence is not
    reorthogonalised, only made orthogonal to the known vectors, so it needs memory for four vectors (P,) in
    addition to them. It ends early, with fewer nodes, if its space is invariant.

    If the complement has at most probes * steps dimensions, its matrix is computed completely instead, and
    the density is exact.

    Args:
        operator: Symmetric map A on vectors of shape (P,).
        probes: Number of random starts, at least 2, because the band needs a spread.
        steps: Maximum number of products, hence of nodes, per probe.
        values: Known eigenvalues, shape (K,). They are used as exact.
        vectors: Their orthonormal eigenvectors, shape (K, P).
        seed: Seed of the probes.
        error: Largest error of an eigenvalue from noise and rounding, in the unit of A; at least 10 ε ‖A‖ is used.

    Raises:
        NumericalError: A product is not finite.
        SettingsError: There are fewer than two probes or no steps.

    References:
        Ubaru, Chen and Saad 2017, SIAM J. Matrix Anal. Appl. 38, algorithm 1. Bhattacharjee et al.,
        SODA 2025, arXiv 2410.21690, for the deflation. Greenbaum 1989 and Chen,
        arXiv 2410.11090, for the recurrence in finite precision.
    """
    if probes < 2 or steps < 1:
        raise SettingsError(f"A density needs at least 2 probes and 1 step, not {probes} and {steps}.", "Use more.")
    size = operator.shape[0]
    basis = vectors if vectors is not None else torch.empty(0, size, dtype=operator.dtype, device=operator.device)
    known = numpy.zeros(0) if values is None else numpy.asarray(values, dtype=float)
    if len(known) != len(basis):
        raise SettingsError(f"There are {len(known)} eigenvalues but {len(basis)} eigenvectors.", "Give both or neither.")
    remaining_size = size - len(known)
    if remaining_size <= probes * steps:
        remaining = _multiplied_out(operator, basis)
        place = numpy.concatenate([known, remaining])
        reach = numpy.full(size, _least(operator, place, error))
        return _assembled([place], [numpy.full(size, 1 / size)], [reach], [-1], size, remaining_size)
    random, spent = generator(seed, streams.DENSITY_PROBES), 0
    nodes, weights, reaches = [known], [numpy.full(len(known), 1 / size)], [numpy.zeros(len(known))]
    with progress.task("density", total=probes * steps, units="products") as shown:
        for _ in range(probes):
            quadrature = _Quadrature(operator, basis, float(abs(known).max(initial=0)), spent)
            quadrature.run(random_direction(operator, basis, random), steps, shown)
            place, mass, residual = quadrature.rule()
            nodes.append(place)
            reaches.append(residual)
            weights.append(mass * remaining_size / size / probes)
            spent = quadrature.products
    least = _least(operator, numpy.concatenate(nodes), error)
    return _assembled(nodes, weights, [reach.clip(least) for reach in reaches], [-1, *range(probes)], size, spent)


class _Quadrature:
    """The tridiagonal matrix of one probe."""

    def __init__(self, operator: SymmetricOperator, basis: Tensor, scale: float, products: int) -> None:
        self.operator, self.basis, self.scale, self.products = operator, basis, scale, products
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []

    def run(self, current: Tensor, steps: int, shown: progress.Task) -> None:
        """Take at most `steps` steps from a unit vector."""
        previous = torch.zeros_like(current)
        for _ in range(steps):
            self.products += 1
            product, length = finite_product(self.operator, current, self.products)
            shown.advance(1)
            self.scale = max(self.scale, length)
            self.diagonal.append(dot(current, product))
            # The memory of the previous vector is reused for the next vector.
            previous.mul_(-self.off_diagonal[-1] if self.off_diagonal else 0.0).add_(product)
            del product
            previous.sub_(current, alpha=self.diagonal[-1])
            orthogonal = orthogonalised(previous, [self.basis], out=previous)
            beta = orthogonal.length
            # Rounding in the product is relative to the norm of the entire operator, even if the remainder is small.
            if beta <= negligible_length(current.dtype, self.scale):
                return
            self.off_diagonal.append(beta)
            previous, current = current, orthogonal.vector.div_(beta)

    def rule(self) -> tuple[Array, Array, Array]:
        """Return the nodes (m,) of the quadrature, their weights (with sum 1), and their residuals."""
        values, vectors = eigh_tridiagonal(self.diagonal, self.off_diagonal[: len(self.diagonal) - 1])
        weights: Array = vectors[0] ** 2
        # Without a last beta the space is invariant, and every node an eigenvalue.
        last = self.off_diagonal[-1] if len(self.off_diagonal) == len(self.diagonal) else 0.0
        return self._distinct(values, weights / weights.sum(), numpy.abs(last * vectors[-1]))

    def _distinct(self, values: Array, weights: Array, residuals: Array) -> tuple[Array, Array, Array]:
        """Merge nodes that differ by rounding only, and drop nodes without mass.

        Such nodes appear if a recurrence continues beyond an invariant space, or loses orthogonality
        to an eigenvector that it has already found. Neither step moves any mass by more than rounding.
        """
        apart = numpy.diff(values) > 100 * torch.finfo(self.operator.dtype).eps * self.scale
        starts = numpy.concatenate([[0], numpy.flatnonzero(apart) + 1])
        mass = numpy.add.reduceat(weights, starts)
        kept = mass > _NEGLIGIBLE
        centre = numpy.add.reduceat(weights * values, starts)[kept] / mass[kept]
        return centre, mass[kept], numpy.minimum.reduceat(residuals, starts)[kept]


def _multiplied_out(operator: SymmetricOperator, basis: Tensor) -> Array:
    """Return the exact eigenvalues (P - K,) of the operator on the complement of a basis."""
    rows = orthonormal_complement(basis)
    small = torch.empty(len(rows), len(rows), dtype=accumulator_of(rows), device=rows.device)
    with progress.task("density", total=len(rows), units="products") as shown:
        for count, row in enumerate(rows):
            small[count] = project(rows, finite_product(operator, row, count + 1)[0])
            shown.advance(1)
    dense = small.cpu().double().numpy()
    eigenvalues: Array = numpy.linalg.eigvalsh((dense + dense.T) / 2)
    return eigenvalues


def _least(operator: SymmetricOperator, places: Array, error: float) -> float:
    """Return the error from noise and rounding that is allowed for every node."""
    scale = float(numpy.abs(places).max(initial=0))
    return max(rounding_of(operator.dtype, scale, size=operator.shape[0]) + product_error(operator), error)


def _assembled(
    nodes: list[Array], weights: list[Array], reaches: list[Array], labels: list[int], size: int, products: int
) -> SpectralDensity:
    """Return the density with the masses of all probes, sorted by position."""
    place, mass = numpy.concatenate(nodes), numpy.concatenate(weights)
    probe = numpy.repeat(numpy.array(labels, dtype=numpy.int64), [len(part) for part in nodes])
    order = numpy.argsort(place, kind="stable")
    reach, place = numpy.concatenate(reaches)[order], place[order]
    off = reach.min(initial=numpy.inf)  # The smallest reach is the allowance for noise and rounding.
    return SpectralDensity(place, mass[order] / mass.sum(), probe[order], reach, place - off, place + off, size, products)
