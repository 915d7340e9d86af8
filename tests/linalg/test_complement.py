"""The interval by index holds the eigenvalue of that index, also where the search was cut short and has missed some."""

import numpy
import pytest
import torch

from sharpcli.linalg.complement import Complement
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.ranks import ranks
from sharpcli.linalg.wanted import Wanted
from tests.lanes import slow
from tests.linalg.spectra import Planted, broad, steep
from tests.linalg.test_certificate import matrix
from tests.linalg.test_lanczos import bulk


def bounded(pairs: Eigenpairs, products: int, attempt: int = 77) -> list[tuple[float, float]]:
    """Return intervals by index from so many products in the complement, noise and rounding included."""
    rest = Complement(pairs.krylov, capacity=max(products, 1), attempt=attempt)
    while rest.waiting is not None and rest.size < products:
        rest.step()
    radii = [pairs.trust.radius(float(residual)) for residual in pairs.residuals]
    slack = pairs.trust.slack(pairs.krylov.size)
    return [rank.interval for rank in ranks(pairs.krylov.frame, pairs.wanted, radii, rest.ends(), slack)]


@pytest.mark.parametrize("spectrum", [steep(3_000), broad(3_000)], ids=["steep", "broad"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("wanted", [Wanted(1), Wanted(5), Wanted(3, "LM")], ids=str)
def test_a_finished_search_has_confirmed_every_index(spectrum: torch.Tensor, dtype: torch.dtype, wanted: Wanted):
    pairs = eigenpairs(Planted(spectrum, dtype), wanted)
    assert pairs.index_probability == (0.98 if wanted.which == "LM" else 0.99)  # Magnitude takes a bound at both ends.
    assert (pairs.confirmations > 0) == (wanted.total > 1)
    exact = spectrum.sort(descending=True).values
    for place, (low, high) in enumerate(pairs.by_index):
        assert low <= float(exact[place]) <= high
        assert high - low < 3e-3 * float(exact[place])


def test_the_error_is_of_second_order():
    """A residual of 2e-1 makes an interval by index of about 1e-3: the bound is the residual squared over the gap."""
    pairs = eigenpairs(Planted(broad(2_000)), Wanted(1), max_products=6)
    low, high = bounded(pairs, 40)[0]
    assert low <= 30 <= high
    assert high - low < 0.1 * float(pairs.residuals[0])


def test_a_search_that_missed_copies_is_not_confirmed():
    """Krylov spaces hold one vector of each eigenspace. Cut short, the search takes 9 for the second of 10, 10, 10, 9, 8."""
    pairs = eigenpairs(Planted(bulk(2_000, 10, 10, 10, 9, 8)), Wanted(3), confirm=0)
    assert pairs.values.tolist() == pytest.approx([10, 9, 8], rel=1e-4)
    for (low, high), exact in zip(bounded(pairs, 8), (10, 10, 10), strict=True):
        assert low <= exact <= high
    found = eigenpairs(Planted(bulk(2_000, 10, 10, 10, 9, 8)), Wanted(3))
    assert found.values.tolist() == pytest.approx([10, 10, 10], rel=1e-4)


@pytest.mark.parametrize("cases", [100, slow(300)])
def test_by_index_in_random_cases(cases: int):
    """Stated: 1 % of the starts may fail; and four standard errors above that, of 300 cases 10."""
    random = numpy.random.default_rng(1)
    failures = finite = 0
    for number in range(cases):
        made, exact = matrix(random)
        count = int(random.integers(1, min(len(made), 5) + 1))
        wanted = Wanted(count, bottom=int(random.integers(0, 2))) if number % 3 else Wanted(count, "SA")
        budget = max(int(random.choice([count + 2, 10, 40])), wanted.total)
        pairs = eigenpairs(torch.from_numpy(made), wanted, max_products=budget, seed=number, confirm=0)
        found = bounded(pairs, int(random.integers(0, 20)), attempt=number)
        for index, (low, high) in zip(pairs.ranks, found, strict=True):
            truth = exact[-index] if index > 0 else exact[-index - 1]
            finite += numpy.isfinite(low) and numpy.isfinite(high)
            if not low <= truth <= high:
                failures += 1
                break
    assert failures <= 0.01 * cases + 4 * (0.01 * 0.99 * cases) ** 0.5
    assert finite > cases


def test_the_whole_space_leaves_no_complement():
    operator = Planted(torch.tensor([3.0, 2.0, 1.0]))
    pairs = eigenpairs(operator, Wanted(3))
    assert pairs.confirmations == 0
    assert [round(low, 9) for low, _ in pairs.by_index] == [3, 2, 1]
    assert [round(low, 9) for low, _ in bounded(pairs, 5)] == [3, 2, 1]
