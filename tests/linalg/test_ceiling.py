import itertools
import math

import numpy
import pytest
import torch

from sharpcli.linalg.ceiling import ceiling
from sharpcli.linalg.krylov import Krylov
from tests.lanes import thinned
from tests.linalg.spectra import Planted, broad, steep


def chain(spectrum: torch.Tensor, steps: int, seed: int, warm: torch.Tensor | None = None) -> Krylov:
    krylov = Krylov(Planted(spectrum), capacity=steps, seed=seed, warm=warm)
    for _ in range(steps):
        krylov.step()
    return krylov


@pytest.mark.parametrize(("spectrum", "steps"), thinned(itertools.product([steep(200), broad(200), -steep(200)], [3, 6, 12])))
def test_it_fails_no_more_often_than_stated(spectrum: torch.Tensor, steps: int):
    """Stated: 5 % of 400 starts, 20; four standard errors above is 37. For a coin of a ceiling it would be half of them."""
    exact, failures, heights = float(spectrum.max()), 0, []
    for seed in range(400):
        frame = chain(spectrum, steps, seed).frame
        heights.append(ceiling(frame.diagonal, frame.off_diagonal, dimension=200, probability=0.95))
        failures += heights[-1] < exact
    assert failures <= 37
    assert numpy.median(heights) < exact + (2e4 if steps == 3 else 2e2 if steps == 6 else 3)


def test_it_is_not_safer_than_stated_by_much_where_nothing_is_thrown_away():
    """After one step |p_1(λ_1)| |v_1ᵀu_1| is all there is for two eigenvalues: then the stated rate is nearly met."""
    failures = 0
    for seed in range(1000):
        random = numpy.random.default_rng(seed)
        start = random.normal(size=100)
        start /= numpy.linalg.norm(start)
        spectrum = numpy.array([1.0] + [0.0] * 99)
        alpha = float(start @ (spectrum * start))
        beta = float(numpy.linalg.norm(spectrum * start - alpha * start))
        failures += ceiling([alpha], [beta], dimension=100, probability=0.8) < 1.0
    assert 120 < failures <= 250


def test_more_steps_bring_it_down_to_the_eigenvalue():
    spectrum = broad(3_000)
    heights = []
    for steps in (4, 8, 16, 32):
        frame = chain(spectrum, steps, 0).frame
        heights.append(ceiling(frame.diagonal, frame.off_diagonal, dimension=3_000))
    assert (numpy.diff(heights) <= 1e-12).all()  # The last two are 30, up to rounding.
    assert heights[-1] == pytest.approx(30, rel=1e-9)
    assert heights[0] > 30.5


def test_a_warm_start_is_worth_less_but_holds():
    """A start near another eigenvector would hide the top one; the random share is what the ceiling counts on."""
    spectrum = broad(2_000)
    second = Planted(spectrum).eigenvectors(2)[1:]
    for seed in range(50):
        krylov = chain(spectrum, 8, seed, warm=second)
        frame = krylov.frame
        found = ceiling(frame.diagonal, frame.off_diagonal, dimension=2_000, share=krylov.share)
        blind = ceiling(frame.diagonal, frame.off_diagonal, dimension=2_000)
        assert found >= 30
        assert found > blind
    assert krylov.share < 0.2


def test_an_invariant_space_has_its_own_top_as_ceiling():
    frame = chain(torch.full((50,), 3.0), 1, 0).frame
    assert ceiling(frame.diagonal, [0.0], dimension=50) == pytest.approx(3)
    assert ceiling([7.0], [1.0], dimension=1) == 7
    assert math.isfinite(ceiling([0.0], [1e-300], dimension=10**9))
