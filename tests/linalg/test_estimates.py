"""Intervals from few probes cover, to either side, also where few eigenvalues make the whole."""

import numpy
import pytest

from sharpcli.linalg.estimates import Array, difference, of_forms, of_positive, scaled
from tests.lanes import crossed

PLACES = numpy.arange(200)
SPECTRA = {
    "exponential": numpy.exp(-PLACES / 10),
    "steep": numpy.exp(-PLACES / 3),
    "power": (1 + PLACES) ** -0.5,
    "flat": 1 + 0.1 * numpy.cos(PLACES),
    "negative": -numpy.exp(-PLACES / 5),
    "both signs": numpy.exp(-PLACES / 10) * (-1.0) ** PLACES,
    "rank four": numpy.where(PLACES < 4, 1.0, 0.0),
}
RUNS = 1_500


def drawn(spectrum: Array, count: int) -> tuple[Array, Array]:
    """Return d uᵀBu and d ‖Bu‖² (RUNS, count) for uniform u."""
    weights = numpy.random.default_rng(count).normal(size=(RUNS, count, len(spectrum))) ** 2
    weights /= weights.sum(axis=2, keepdims=True)
    return len(spectrum) * weights @ spectrum, len(spectrum) * weights @ spectrum**2


@pytest.mark.parametrize(("name", "count"), crossed(SPECTRA, [10, 25]))
def test_coverage_of_the_trace(name: str, count: int):
    """Student's interval over ten probes covers 92.3 % of "steep", with ten times as many misses to one side."""
    spectrum, truth = SPECTRA[name], float(SPECTRA[name].sum())
    found = [of_forms(*pair, len(spectrum)) for pair in zip(*drawn(spectrum, count), strict=True)]
    below, above = sum(one.upper < truth for one in found) / RUNS, sum(one.lower > truth for one in found) / RUNS
    assert 0.93 <= 1 - below - above <= 0.97
    assert max(below, above) <= 0.05


@pytest.mark.parametrize(("name", "count"), crossed(SPECTRA, [6, 20]))
def test_coverage_of_the_squared_norm(name: str, count: int):
    """Student's interval covers 89 % of "steep" with six probes."""
    spectrum, truth = SPECTRA[name], float((SPECTRA[name] ** 2).sum())
    found = [of_positive(values) for values in drawn(spectrum, count)[1]]
    hits = sum(one.lower <= truth <= one.upper for one in found) / RUNS
    assert 0.915 <= hits <= 0.97


def test_a_multiple_of_the_identity_has_no_chance():
    found = of_forms(numpy.full(10, 600.0), numpy.full(10, 1800.0), 200)
    assert (found.value, found.lower, found.upper) == pytest.approx((600, 600, 600))
    assert of_positive(numpy.full(10, 3.0)).upper == pytest.approx(3)


def test_scaled_and_difference():
    assert scaled(0.0, 1.0) == (0.0, 0.0)
    assert scaled(5.0, 0.0) == (5.0, 5.0)
    low, high = scaled(10.0, 2 * 10.0**2 / 20)  # χ² with 20 degrees of freedom, times one half.
    assert (low, high) == pytest.approx((20 * 10 / 34.1696, 20 * 10 / 9.59078), rel=1e-5)
    assert scaled(10.0, 1e-9) == pytest.approx((10 - 1.96 * 1e-9**0.5, 10 + 1.96 * 1e-9**0.5), rel=1e-8)
    assert difference(5, (4, 7), 2, (1, 6)) == pytest.approx((3 - 17**0.5, 3 + 5**0.5))
