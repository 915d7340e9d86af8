"""Densities of several operators in step, and the distances between them, in closed form."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from torch import Tensor

from sharpcli.linalg.block_densities import Known, block_densities
from sharpcli.linalg.slq import spectral_density
from sharpcli.linalg.spectral_density import SpectralDensity
from sharpcli.linalg.spectral_distance import distances
from tests.device import DEVICE
from tests.linalg.spectra import Planted, broad, steep

LINEAR, WIDTH = 1e-3, 0.12


def in_step(
    spectra: list[Tensor], known: int = 0, probes: int = 4, steps: int = 20, seed: int = 0
) -> tuple[list[SpectralDensity], int]:
    operators = [Planted(spectrum) for spectrum in spectra]
    about = [
        Known(spectrum[:known].double().cpu().numpy(), operator.eigenvectors(known), 0.0)
        if known
        else Known(numpy.zeros(0), torch.empty(0, len(spectrum), dtype=torch.float64, device=DEVICE), 0.0)
        for spectrum, operator in zip(spectra, operators, strict=True)
    ]

    def multiply(places, vectors):
        return [operators[place] @ vector for place, vector in zip(places, vectors, strict=True)]

    return block_densities(multiply, operators, about, probes=probes, steps=steps, seed=seed)


@pytest.mark.parametrize("known", [0, 4])
def test_a_small_operator_is_exact_and_a_large_one_is_sampled_in_the_same_passes(known: int):
    small, large = torch.linspace(3, -1, 30, dtype=torch.float64), broad()
    (exact, sampled), passes = in_step([small, large], known)
    assert passes == 80
    assert (exact.probes, sampled.probes) == (0, 4)
    assert exact.products == 30 - known
    numpy.testing.assert_allclose(exact.nodes, numpy.sort(small.numpy()), atol=1e-12)
    assert sampled.products == 80


def test_in_step_it_is_as_accurate_as_alone():
    large, seeds = broad(), range(10)
    found = [in_step([large, steep()], seed=seed)[0][0].wasserstein(large.cpu()) for seed in seeds]
    alone = [spectral_density(Planted(large), probes=4, steps=20, seed=seed).wasserstein(large.cpu()) for seed in seeds]
    assert numpy.mean(found) == pytest.approx(numpy.mean(alone), rel=0.3)


def test_the_effective_rank_of_a_projector_is_its_rank():
    (found, zero), _ = in_step([torch.cat([torch.full((7,), 3.0), torch.zeros(20)]), torch.zeros(30)])
    rank = found.effective_rank()
    assert rank is not None
    assert (rank.value, rank.samples) == (pytest.approx(7, rel=1e-9), 0)
    assert zero.effective_rank() is None


def test_an_invariant_space_ends_a_probe():
    (found, other), passes = in_step([torch.full((300,), 2.0), steep()])
    assert found.products == 4
    numpy.testing.assert_allclose(found.nodes, 2.0)
    assert (other.products, passes) == (80, 80)


COVERED = {
    "mean": (lambda density: density.moment(1), lambda spectrum: float(spectrum.double().mean())),
    "mean square": (lambda density: density.moment(2), lambda spectrum: float((spectrum.double() ** 2).mean())),
    "effective rank": (SpectralDensity.effective_rank, lambda one: float(one.double().sum() ** 2 / (one.double() ** 2).sum())),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COVERED)
def test_the_intervals_of_each_cover(name: str):
    """95 % of the intervals hold the number, over 100 seeds of three operators."""
    estimate, exact = COVERED[name]
    spectra, held, count = [steep(), broad(), torch.linspace(-1, 2, 300, dtype=torch.float64)], 0, 0
    for seed in range(100):
        for density, spectrum in zip(in_step(spectra, 2, probes=4, steps=6, seed=seed)[0], spectra, strict=True):
            found, wanted = estimate(density), exact(spectrum)
            assert found is not None
            held, count = held + (found.lower <= wanted <= found.upper), count + 1
    assert abs(held / count - 0.95) < 4 * math.sqrt(0.95 * 0.05 / count)


def test_distances_of_exact_densities_in_closed_form():
    """0 for equal spectra, 1 for spectra that are far apart; for a half and a quarter in common as two coins have it."""
    one, far = torch.full((40,), 5.0), torch.full((30,), -5.0)
    half, quarter = torch.cat([one[:20], far[:20]]), torch.cat([one[:10], far[:30]])
    (densities, _) = in_step([one, one[:7], far, half, quarter])
    matrix, halves = distances(densities, LINEAR, WIDTH)
    assert numpy.allclose(matrix, matrix.T)
    assert matrix[0, 1] == pytest.approx(0, abs=1e-6)
    assert matrix[0, 2] == pytest.approx(1, abs=1e-6)

    def coins(first: float, second: float) -> float:
        def entropy(share: float) -> float:
            return -sum(part * math.log2(part) for part in (share, 1 - share) if part)

        return math.sqrt(entropy((first + second) / 2) - (entropy(first) + entropy(second)) / 2)

    assert matrix[0, 3] == pytest.approx(coins(1, 0.5), abs=1e-6)
    assert matrix[3, 4] == pytest.approx(coins(0.5, 0.25), abs=1e-6)
    assert halves.tolist() == [0, 0, 0, 0, 0]


def test_the_distance_of_two_halves_is_what_chance_makes_of_two_equal_operators():
    spectra = [broad(), broad()]
    found = [distances(in_step(spectra, seed=seed)[0], LINEAR, WIDTH) for seed in range(5)]
    between, chance = (numpy.mean([one[place].max() for one in found]) for place in (0, 1))
    assert 0 < between < 1.5 * chance  # Half as many probes make a half less exact.
    assert chance < 0.6
