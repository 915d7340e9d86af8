import numpy
import pytest
import torch

from sharpcli.linalg.reductions import combine, dot, norm, project


def test_norm_of_a_long_float32_vector_is_exact_where_torch_is_not():
    vector = torch.rand(3_000_000, generator=torch.Generator().manual_seed(0))
    exact = numpy.sqrt(numpy.square(vector.numpy().astype(numpy.float64)).sum())
    assert norm(vector) == pytest.approx(exact, rel=1e-12)
    assert dot(vector, vector) == pytest.approx(exact**2, rel=1e-12)


@pytest.mark.parametrize("length", [1, 5, 2**16, 2**16 + 1])
def test_project_and_combine_are_the_two_products_with_the_matrix(length: int):
    random = torch.Generator().manual_seed(length)
    rows = torch.randn(3, length, generator=random, dtype=torch.float64)
    vector = torch.randn(length, generator=random, dtype=torch.float64)
    weights = torch.randn(3, generator=random, dtype=torch.float64)
    torch.testing.assert_close(project(rows, vector), rows @ vector)
    torch.testing.assert_close(combine(weights, rows), weights @ rows)


def test_project_and_combine_of_no_rows():
    empty = torch.empty(0, 7)
    assert project(empty, torch.ones(7)).shape == (0,)
    assert torch.equal(combine(torch.empty(0), empty), torch.zeros(7))
