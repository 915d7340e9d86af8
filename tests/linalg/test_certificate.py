"""R5: an interval that is printed holds an exact eigenvalue, and the ceiling holds as often as it says."""

import numpy
import pytest
import torch

from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from tests.lanes import long, slow


def matrix(random: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return a symmetric matrix of one of many kinds and its eigenvalues, ascending, in float64."""
    size = int(random.integers(1, 90))
    kinds = [
        random.normal(size=size),
        numpy.exp(random.normal(scale=3, size=size)),
        numpy.concatenate([random.exponential(10, size=min(size, 4)), random.normal(scale=0.1, size=max(size - 4, 0))]),
        random.integers(-2, 3, size=size).astype(float),
        -numpy.exp(-numpy.arange(size) / 3.0),
        numpy.where(random.random(size) < 0.9, 0, random.normal(size=size)),
    ]
    spectrum = kinds[random.integers(len(kinds))] * 10.0 ** random.integers(-6, 7)
    turn, _ = numpy.linalg.qr(random.normal(size=(size, size)))
    made = turn * spectrum @ turn.T
    made = (made + made.T) / 2
    return made, numpy.linalg.eigvalsh(made)


def solved(random: numpy.random.Generator, made: numpy.ndarray, number: int) -> tuple[Eigenpairs, numpy.ndarray]:
    dtype = (torch.float64, torch.float32)[number % 2]
    operator = torch.from_numpy(made).to(dtype)
    count = int(random.integers(1, min(len(made), 6) + 1))
    wanted = Wanted(count, ("LA", "SA", "LM")[random.integers(3)], bottom=int(random.integers(0, 2)))
    if wanted.which == "SA":
        wanted = Wanted(count, "SA")
    tolerance = 10.0 ** -random.integers(1, 5)
    budget = int(random.choice([count + 2, 12, 25, 200]))
    pairs = eigenpairs(operator, wanted, tolerance=tolerance, max_products=max(budget, count), seed=number)
    exact = numpy.linalg.eigvalsh(operator.double().cpu().numpy())
    return pairs, exact


@pytest.mark.parametrize("cases", [50, slow(300), long(1_000)])
def test_the_intervals_of_random_cases(cases: int):
    """Any exact eigenvalue in the interval is what is promised; in certified ones also the one of that index is counted."""
    random = numpy.random.default_rng(0)
    intervals = misses = certified = misnamed = outside = above = below = 0
    for number in range(cases):
        made, _ = matrix(random)
        pairs, exact = solved(random, made, number)
        assert "refused" not in pairs.verdicts
        for place in range(len(pairs.verdicts)):
            low, high = pairs.interval(place)
            intervals += 1
            misses += not bool(((exact >= low) & (exact <= high)).any())
            if pairs.verdicts[place] == "certified":
                certified += 1
                misnamed += not low <= named(exact, pairs, place) <= high
            if pairs.wanted.which != "LM":
                least, most = pairs.by_index[place]
                outside += not least <= named(exact, pairs, place) <= most
        above += exact[-1] > pairs.ceiling
        below += exact[0] < pairs.floor
    assert intervals > 2 * cases
    assert misses <= 0.001 * intervals
    assert certified > cases
    assert misnamed <= 0.001 * certified
    most = 0.01 * cases + 4 * (0.01 * 0.99 * cases) ** 0.5  # Stated: 0.01; and four standard errors, 22 of a thousand.
    assert above <= most
    assert below <= most
    assert outside <= most


def named(exact: numpy.ndarray, pairs: Eigenpairs, place: int) -> float:
    """Return the exact eigenvalue that an index names."""
    index = pairs.ranks[place]
    value = float(pairs.values[place])
    if pairs.wanted.which == "LM" and index > 0:
        ranked = exact[numpy.argsort(-numpy.abs(exact))]
        near = ranked[numpy.isclose(numpy.abs(ranked), abs(ranked[index - 1]), rtol=1e-5)]  # ±λ of one magnitude
        return float(near[numpy.abs(near - value).argmin()])
    return float(exact[-index] if index > 0 else exact[-index - 1])
