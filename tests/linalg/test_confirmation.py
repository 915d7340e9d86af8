"""Indices and bounds under rounding, overlapping intervals and unusual sizes."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import Tensor

from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.slq import spectral_density
from sharpcli.linalg.wanted import Wanted
from sharpcli.runtime import generator


class Matrix:
    def __init__(self, product, size: int, dtype: torch.dtype) -> None:
        self.product, self.shape, self.dtype, self.device = product, (size, size), dtype, torch.device("cpu")

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.product(vector)


@pytest.mark.parametrize("seed", range(5))
def test_a_neighbour_that_rounding_hides_is_within_the_ceiling_and_the_interval_of_its_index(seed: int):
    """½ I + δ uuᵀ in float32: what leads out of the first vector is no more than rounding, and λmax is ½ + δ."""
    size, excess = 100_000, 1e-4
    along = torch.randn(size, generator=generator(1))
    along /= along.norm()
    found = eigenpairs(Matrix(lambda v: 0.5 * v + excess * (along @ v) * along, size, torch.float32), Wanted(1), seed=seed)
    assert found.ceiling >= 0.5 + 0.999 * excess
    low, high = found.by_index[0]
    assert low <= 0.5 + excess <= high


def test_no_more_passes_than_can_help():
    """Two equal rows are no orthonormal basis: what one takes out the other puts back, for ever."""
    row = torch.nn.functional.normalize(torch.randn(20, generator=generator(0)), dim=0)
    orthogonalised(torch.randn(20, generator=generator(1)), [torch.stack([row, row])])


@pytest.mark.parametrize("seed", range(12))
def test_a_count_of_all_is_all(seed: int):
    values = torch.linspace(0.01, 1, 300)
    found = spectral_density(Matrix(lambda v: values * v, 300, torch.float32), probes=3, steps=10, seed=seed).count_above(-1.0)
    assert (found.value, found.lower, found.upper) == pytest.approx((300, 300, 300))


def test_a_null_space_is_not_counted_by_its_rounding():
    factor = torch.randn(60, 5, generator=generator(0))
    matrix = factor @ factor.T
    found = spectral_density(Matrix(lambda v: matrix @ v, 60, torch.float32), probes=4, steps=20).count_above(0.0)
    assert found.lower <= 5 <= found.upper
    apart = spectral_density(Matrix(lambda v: matrix @ v, 60, torch.float32), probes=4, steps=20).count_above(0.01)
    assert (apart.value, apart.lower, apart.upper) == (5, 5, 5)


@pytest.mark.parametrize("confirm", [0, 1, 2])
def test_few_products_to_confirm_with_are_no_error(confirm: int):
    values = torch.linspace(-1, 3, 50, dtype=torch.float64)
    found = eigenpairs(Matrix(lambda v: values * v, 50, torch.float64), Wanted(2), confirm=confirm)
    assert found.values.cpu().numpy() == pytest.approx(numpy.sort(values.cpu().numpy())[::-1][:2], rel=1e-3)


@pytest.mark.slow
def test_one_that_was_missed_at_the_other_end_is_not_ruled_out_by_magnitude():
    """10, -9, -9, 8 and a dense rest: a copy is easily missed, and what then comes third is not the third.

    Confirmed is with probability 0.99 each; 8 in place of the copy is to be rarer than that.
    """
    confirmed = wrong = 0
    for seed in range(150):
        values = torch.cat([torch.tensor([10.0, -9.0, -9.0, 8.0]), torch.linspace(-1, 1, 196)]).double()
        matrix = Matrix(lambda v, values=values: values * v, 200, torch.float64)
        found = eigenpairs(matrix, Wanted(3, "LM"), tolerance=1e-2, seed=seed)
        for value, (low, high), right in zip(found.values, found.by_index, (10, -9, -9), strict=True):
            if high - low <= 0.02 * abs(float(value)):
                confirmed += 1
                wrong += not low - 0.1 <= right <= high + 0.1
    assert confirmed > 300
    assert wrong <= 5
