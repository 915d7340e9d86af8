"""Spectral density of a symmetric operator by stochastic Lanczos quadrature, without a stored basis.

`quadrature.py` has the recurrence of one probe. Known eigenvalues are deflated first, each with its exact share.
"""

from __future__ import annotations

from functools import partial

import numpy
import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.errors import SettingsError
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.probes import finite_product, orthonormal_complement, random_direction
from sharpcli.linalg.quadrature import Quadrature, assembled, least_reach
from sharpcli.linalg.reductions import accumulator_of, project
from sharpcli.linalg.spectral_density import Array, SpectralDensity
from sharpcli.runtime import generator


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
        reach = numpy.full(size, least_reach(operator, place, error))
        return assembled([place], [numpy.full(size, 1 / size)], [reach], [-1], size, remaining_size)
    random, spent = generator(seed, streams.DENSITY_PROBES), 0
    nodes, weights, reaches = [known], [numpy.full(len(known), 1 / size)], [numpy.zeros(len(known))]
    with progress.task("density", total=probes * steps, units="products") as shown:
        for _ in range(probes):
            quadrature = Quadrature(operator, basis, float(abs(known).max(initial=0)))
            quadrature.begin(random_direction(operator, basis, random))
            while len(quadrature) < steps and not quadrature.ended:
                spent += 1
                quadrature.step(partial(finite_product, operator, count=spent))
                shown.advance(1)
            place, mass, residual = quadrature.rule()
            nodes.append(place)
            reaches.append(residual)
            weights.append(mass * remaining_size / size / probes)
    least = least_reach(operator, numpy.concatenate(nodes), error)
    return assembled(nodes, weights, [reach.clip(least) for reach in reaches], [-1, *range(probes)], size, spent)


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
