"""Problems on which statements about eigenvalues are easily wrong: clusters, copies, dense ends, noise, few parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from tests.device import DEVICE

Random = numpy.random.Generator
Spectrum = numpy.ndarray


class Diagonal:
    """A diagonal matrix; with noise of a length in parts of its norm, another at each product."""

    def __init__(self, spectrum: Spectrum, *, dtype: torch.dtype = torch.float64, noise: float = 0.0) -> None:
        self.spectrum = torch.from_numpy(numpy.asarray(spectrum, float)).to(DEVICE, dtype)
        self.dtype, self.device = dtype, DEVICE
        self.shape = (len(spectrum), len(spectrum))
        self.noise, self.random = noise * float(self.spectrum.abs().max()), numpy.random.default_rng(3)

    @property
    def exact(self) -> Spectrum:
        """All eigenvalues, ascending."""
        return numpy.sort(self.spectrum.double().cpu().numpy())

    def __matmul__(self, vector: Tensor) -> Tensor:
        product = self.spectrum * vector
        if self.noise:
            error = self.random.normal(size=len(vector))
            product = product + torch.from_numpy(error * self.noise / numpy.linalg.norm(error)).to(self.device, self.dtype)
        return product


@dataclass(frozen=True)
class Problem:
    operator: Diagonal
    wanted: Wanted
    budget: int = 150


def _bulk(random: Random, size: int = 200) -> Spectrum:
    places = numpy.arange(size)
    return [
        random.uniform(-0.3, 0.5, size),
        0.6 * numpy.exp(-places / random.uniform(3, 60)) - 0.05,
        random.normal(scale=0.1, size=size),
    ][random.integers(3)]


def _near(random: Random, value: float, count: int, least: float) -> Spectrum:
    return value * (1 - 10 ** -random.uniform(least, 5) * random.random(count))


def steps(random: Random) -> Problem:
    """Nine eigenvalues in steps of 1e-4 of themselves over a bulk: 100.00, 100.01, ... 100.08."""
    return Problem(Diagonal(numpy.concatenate([100 + 0.01 * numpy.arange(9), random.uniform(-1, 50, 200)])), Wanted(3))


def cluster(random: Random) -> Problem:
    tops, more = _near(random, 10, random.integers(2, 12), 1.5), _near(random, 5, random.integers(0, 5), 1.5)
    return Problem(Diagonal(numpy.concatenate([tops, more, _bulk(random)])), Wanted(int(random.integers(1, 6))))


def copies(random: Random) -> Problem:
    tops = numpy.repeat(random.integers(5, 9, size=random.integers(1, 5)), random.integers(1, 6)).astype(float)
    return Problem(Diagonal(numpy.concatenate([tops, _bulk(random)])), Wanted(int(random.integers(1, 6))))


def edge(random: Random) -> Problem:
    """No gap anywhere, and the bottom asked for too."""
    ends = [numpy.linspace(-1, 1, 150), 1 - random.random(150) ** random.uniform(0.3, 2), random.normal(size=150)]
    return Problem(
        Diagonal(10 * ends[random.integers(3)]), Wanted(int(random.integers(1, 4)), bottom=int(random.integers(0, 2)))
    )


def noisy(random: Random) -> Problem:
    found = cluster(random)
    return Problem(Diagonal(found.operator.spectrum.cpu().numpy(), noise=10 ** -random.uniform(2.5, 7)), found.wanted)


def tiny(random: Random) -> Problem:
    size = int(random.integers(1, 25))
    spectra = [
        random.normal(size=size),
        random.integers(-2, 3, size=size),
        100 + 0.01 * numpy.arange(size),
        numpy.exp(3 * random.normal(size=size)),
    ]
    return Problem(Diagonal(spectra[random.integers(4)]), Wanted(int(random.integers(1, min(size, 5) + 1))))


def single(random: Random) -> Problem:
    """In float32."""
    found = cluster(random)
    return Problem(Diagonal(found.operator.spectrum.cpu().numpy(), dtype=torch.float32), found.wanted)


def magnitude(random: Random) -> Problem:
    tops = _near(random, 10, random.integers(1, 6), 1)
    signs = random.choice([-1, 1], size=len(tops))
    return Problem(Diagonal(numpy.concatenate([tops * signs, _bulk(random)])), Wanted(int(random.integers(1, 4)), "LM"))


def cut_short(random: Random) -> Problem:
    found = (cluster, edge, copies)[random.integers(3)](random)
    return Problem(found.operator, found.wanted, int(random.integers(found.wanted.total + 1, 25)))


def one(random: Random) -> Problem:
    """The first alone, which has no neighbours to betray that it is another."""
    return Problem((cluster, copies, noisy)[random.integers(3)](random).operator, Wanted(1))


FAMILIES: dict[str, Callable[[Random], Problem]] = {
    made.__name__: made for made in (steps, cluster, copies, edge, noisy, tiny, single, magnitude, cut_short, one)
}


@dataclass
class Tally:
    """How many runs there were, and in how many of them a statement of each kind was wrong."""

    runs: int = 0
    confirmed: int = 0
    wrong: int = 0
    residual: int = 0
    by_index: int = 0
    ranges: int = 0
    ceiling: int = 0
    floor: int = 0

    def add(self, problem: Problem, seed: int) -> None:
        """Run a search and hold what it says to the truth."""
        pairs = eigenpairs(problem.operator, problem.wanted, seed=seed, max_products=problem.budget)
        exact, rows = problem.operator.exact, range(len(pairs.verdicts))
        self.runs += 1
        self.confirmed += sum(pairs.confirmed)
        if "refused" in pairs.verdicts:
            return
        self.wrong += any(pairs.confirmed[row] and not _holds(pairs.interval(row), exact, pairs, row) for row in rows)
        self.residual += any(not len(_within(pairs.interval(row), exact)) for row in rows)
        self.by_index += any(not _holds(pairs.by_index[row], exact, pairs, row) for row in rows)
        self.ranges += any(not _in_range(exact, pairs, row) for row in rows)
        self.ceiling += pairs.ceiling < max(exact[-1], float(pairs.values.max()))
        self.floor += pairs.floor > min(exact[0], float(pairs.values.min()))


def _within(interval: tuple[float, float], exact: Spectrum) -> Spectrum:
    return exact[(exact >= interval[0]) & (exact <= interval[1])]


def _ranked(exact: Spectrum, pairs: Eigenpairs, row: int) -> Spectrum:
    """Return the eigenvalues in the order of their indices."""
    if pairs.wanted.which == "LM" and pairs.ranks[row] > 0:
        return exact[numpy.argsort(-numpy.abs(exact), kind="stable")]
    return exact[::-1] if pairs.ranks[row] > 0 else exact


def _holds(interval: tuple[float, float], exact: Spectrum, pairs: Eigenpairs, row: int) -> bool:
    """Tell whether an interval holds the eigenvalue of a row's index; of ±λ of one magnitude, any."""
    ranked = _ranked(exact, pairs, row)
    truth = ranked[abs(pairs.ranks[row]) - 1]
    alike = ranked[numpy.isclose(numpy.abs(ranked), abs(truth), rtol=1e-12)] if pairs.wanted.which == "LM" else [truth]
    return any(interval[0] <= value <= interval[1] for value in alike)


def _in_range(exact: Spectrum, pairs: Eigenpairs, row: int) -> bool:
    """Tell whether all eigenvalues within an interval that is not confirmed have an index of the range."""
    known = pairs.known[row]
    if pairs.confirmed[row]:
        return True
    ranked, inside = _ranked(exact, pairs, row), _within(pairs.interval(row), exact)
    places = 1 + numpy.flatnonzero(numpy.isin(ranked, inside))
    least, most = abs(known.first), len(exact) if known.last is None else abs(known.last)
    return bool(((places >= least) & (places <= most)).all())
