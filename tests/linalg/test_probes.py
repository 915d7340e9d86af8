"""Random directions, and products that must be finite."""

from __future__ import annotations

import math

import pytest
import torch

from sharpcli.errors import NumericalError
from sharpcli.linalg.probes import finite_product, orthonormal_complement, random_direction
from tests.linalg.spectra import Planted, steep


def test_a_product_comes_with_its_length():
    operator = Planted(steep(20))
    vector = operator.eigenvectors(1)[0]
    product, length = finite_product(operator, vector, 1)
    torch.testing.assert_close(product, 10 * vector)
    assert length == pytest.approx(10)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_product_that_is_not_finite_or_whose_square_is_not_is_told_by_its_number(value: float):
    with pytest.raises(NumericalError, match="product 7 is not finite"):
        finite_product(torch.diag(torch.full((200,), value)), torch.ones(200), 7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_direction_is_a_unit_vector_of_the_complement(dtype: torch.dtype):
    operator = Planted(steep(50), dtype)
    basis = operator.eigenvectors(5)
    vector = random_direction(operator, basis, torch.Generator().manual_seed(0))
    assert vector.dtype == dtype
    assert float(vector.norm()) == pytest.approx(1, abs=1e-6)
    assert float((basis @ vector).abs().max()) < 10 * torch.finfo(dtype).eps


def test_the_complement_of_rows_completes_them():
    rows = torch.linalg.qr(torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0].T
    whole = torch.cat([rows, orthonormal_complement(rows)])
    torch.testing.assert_close(whole @ whole.T, torch.eye(8, dtype=torch.float64))
    assert torch.equal(orthonormal_complement(rows[:0]), torch.eye(8, dtype=torch.float64))
