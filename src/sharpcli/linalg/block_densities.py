"""Spectral densities of several operators whose products are computed together, such as the diagonal blocks of one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.probes import orthonormal_complement, random_direction, require_finite
from sharpcli.linalg.quadrature import Quadrature, assembled, least_reach
from sharpcli.linalg.reductions import accumulator_of, norm, project
from sharpcli.linalg.spectral_density import Array, SpectralDensity
from sharpcli.runtime import generator


class Known(NamedTuple):
    """What is known of one operator before its density is estimated.

    Attributes:
        values: Eigenvalues (K,), used as exact.
        vectors: Their orthonormal eigenvectors (K, n).
        error: Largest error of an eigenvalue from noise and rounding, in the unit of the operator.
    """

    values: Array
    vectors: Tensor
    error: float


def block_densities(
    multiply: Callable[[Sequence[int], Sequence[Tensor]], Sequence[Tensor]],
    operators: Sequence[SymmetricOperator],
    known: Sequence[Known],
    *,
    probes: int,
    steps: int,
    seed: int = 0,
) -> tuple[list[SpectralDensity], int]:
    """Estimate the density of each operator, as `slq.spectral_density` does, all of them in step.

    An operator with at most probes * steps unknown eigenvalues is multiplied out: its density is exact.

    Args:
        multiply: Returns the products of some operators, by number, with one vector (n,) each. This is one pass over the data.
        operators: Give sizes, types and errors of products.
        known: For each operator what is known.
        probes: Number of random starts for each operator, at least 2.
        steps: Maximum number of products per probe.
        seed: Seed of the probes.

    Returns:
        The densities, and the number of passes.

    Raises:
        NumericalError: A product is not finite.
    """
    works = [
        _work(operator, one, probes, steps, generator(seed, streams.BLOCK_PROBES, place))
        for place, (operator, one) in enumerate(zip(operators, known, strict=True))
    ]
    passes, most = 0, max((work.products for work in works), default=0)
    with progress.task("density of blocks", total=most, units="passes") as shown:
        while places := [place for place, work in enumerate(works) if not work.is_done()]:
            passes += 1
            products = multiply(places, [works[place].vector() for place in places])
            for place, product in zip(places, products, strict=True):
                require_finite(norm(product), passes)
                works[place].take(product)
            shown.advance(1)
    return [work.density() for work in works], passes


class _Exact:
    """The matrix of one operator on the complement of what is known, row by row."""

    def __init__(self, operator: SymmetricOperator, known: Known) -> None:
        self._operator, self._known = operator, known
        self._rows = orthonormal_complement(known.vectors)
        self.products = len(self._rows)
        self._matrix: list[Tensor] = []

    def is_done(self) -> bool:
        return len(self._matrix) == len(self._rows)

    def vector(self) -> Tensor:
        return self._rows[len(self._matrix)]

    def take(self, product: Tensor) -> None:
        self._matrix.append(project(self._rows, product).to(accumulator_of(product)))

    def density(self) -> SpectralDensity:
        places = self._known.values
        if self._matrix:
            dense = torch.stack(self._matrix).cpu().double().numpy()
            places = numpy.concatenate([places, numpy.linalg.eigvalsh((dense + dense.T) / 2)])
        size = self._operator.shape[0]
        reach = numpy.full(size, least_reach(self._operator, places, self._known.error))
        return assembled([places], [numpy.full(size, 1 / size)], [reach], [-1], size, self.products)


class _Sampled:
    """The quadratures of one operator, one after another."""

    def __init__(self, operator: SymmetricOperator, known: Known, probes: int, steps: int, random: torch.Generator) -> None:
        self._operator, self._known, self._probes, self._steps, self._random = operator, known, probes, steps, random
        self.products = probes * steps
        self._spent, self._scale = 0, float(abs(known.values).max(initial=0))
        self._done: list[tuple[Array, Array, Array]] = []
        self._begin()

    def _begin(self) -> None:
        self._quadrature = Quadrature(self._operator, self._known.vectors, self._scale)
        self._quadrature.begin(random_direction(self._operator, self._known.vectors, self._random))

    def is_done(self) -> bool:
        return len(self._done) == self._probes

    def vector(self) -> Tensor:
        return self._quadrature.current

    def take(self, product: Tensor) -> None:
        self._spent += 1
        self._quadrature.step(lambda _: (product, norm(product)))
        if self._quadrature.ended or len(self._quadrature) == self._steps:
            self._done.append(self._quadrature.rule())
            if not self.is_done():
                self._begin()

    def density(self) -> SpectralDensity:
        size, values = self._operator.shape[0], self._known.values
        share = (size - len(values)) / size / self._probes
        nodes = [values, *(place for place, _, _ in self._done)]
        weights = [numpy.full(len(values), 1 / size), *(mass * share for _, mass, _ in self._done)]
        least = least_reach(self._operator, numpy.concatenate(nodes), self._known.error)
        reaches = [numpy.full(len(values), least), *(residual.clip(least) for _, _, residual in self._done)]
        return assembled(nodes, weights, reaches, [-1, *range(self._probes)], size, self._spent)


def _work(operator: SymmetricOperator, known: Known, probes: int, steps: int, random: torch.Generator) -> _Exact | _Sampled:
    remaining = operator.shape[0] - len(known.values)
    if remaining <= probes * steps:
        return _Exact(operator, known)
    return _Sampled(operator, known, probes, steps, random)
