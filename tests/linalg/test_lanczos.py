import math

import numpy
import pytest
import torch
from torch import Tensor

from sharpcli.errors import NumericalError
from sharpcli.linalg.lanczos import _Krylov, top_eigenpairs


class Planted:
    """A matrix with a chosen spectrum that no coordinate shows: a diagonal between two Householder reflections."""

    def __init__(self, spectrum: Tensor, dtype: torch.dtype = torch.float64) -> None:
        self.spectrum, self.dtype, self.device = spectrum.to(dtype), dtype, torch.device("cpu")
        self.shape = (len(spectrum), len(spectrum))
        normal = torch.randn(len(spectrum), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        self.normal = (normal / normal.norm()).to(dtype)
        self.products = 0

    def _reflect(self, vector: Tensor) -> Tensor:
        return vector - 2 * (self.normal.double() @ vector.double()).to(self.dtype) * self.normal

    def __matmul__(self, vector: Tensor) -> Tensor:
        self.products += 1
        return self._reflect(self.spectrum * self._reflect(vector))


def _bulk(size: int, *top: float) -> Tensor:
    bulk = torch.linspace(-0.1, 0.1, size - len(top), dtype=torch.float64)
    return torch.cat([torch.tensor(top, dtype=torch.float64), bulk])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ten_planted_eigenvalues_among_twenty_thousand(dtype: torch.dtype):
    operator = Planted(_bulk(20_000, *range(10, 0, -1)), dtype)
    pairs = top_eigenpairs(operator, count=10)
    accuracy = 1e-6 if dtype == torch.float64 else 1e-5
    assert pairs.values.tolist() == pytest.approx(list(range(10, 0, -1)), rel=accuracy)
    assert all(pairs.converged)
    assert operator.products == pairs.steps + pairs.verifications
    assert pairs.verifications == 10


def test_no_ghosts_after_many_float32_steps():
    """Without reorthogonalisation the largest eigenvalue would be listed again and again."""
    krylov = _Krylov(Planted(_bulk(5_000, *range(10, 0, -1)), torch.float32), seed=0)
    for _ in range(150):
        krylov.step()
    values, _, _ = krylov.ritz()
    assert values[:10].tolist() == pytest.approx(list(range(10, 0, -1)), rel=1e-5)
    assert values[10] < 0.11
    gram = krylov.basis.double() @ krylov.basis.double().T
    assert float((gram - torch.eye(150)).abs().max()) < 1e-5


def test_the_largest_algebraic_is_found_beside_a_negative_one_of_like_size():
    """Power iteration mixes the two and answers something in between."""
    pairs = top_eigenpairs(Planted(_bulk(2_000, 1.0, -0.98)), count=1)
    assert float(pairs.values[0]) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_answer_scales_with_the_operator(scale: float):
    pairs = top_eigenpairs(Planted(scale * _bulk(2_000, 5.0, 3.0, 2.0), torch.float32), count=3)
    assert pairs.values.tolist() == pytest.approx([5 * scale, 3 * scale, 2 * scale], rel=1e-5)
    assert all(pairs.converged)


@pytest.mark.parametrize(
    ("spectrum", "count", "expected"),
    [
        ([4.0, 2.0] + [0.0] * 98, 4, [4.0, 2.0, 0.0, 0.0]),
        ([3.0] * 100, 3, [3.0] * 3),
        ([0.0] * 100, 2, [0.0] * 2),
        ([-1.0, -2.0, -3.0], 3, [-1.0, -2.0, -3.0]),
        ([7.0], 1, [7.0]),
    ],
    ids=["rank two", "all equal", "zero", "negative, whole space", "one by one"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_breakdown_is_not_the_end(spectrum: list[float], count: int, expected: list[float], dtype: torch.dtype):
    pairs = top_eigenpairs(Planted(torch.tensor(spectrum), dtype), count=count)
    assert pairs.values.tolist() == pytest.approx(expected, abs=2e-5)
    assert all(pairs.converged)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_residuals_are_measured_and_bound_the_error(seed: int):
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(200, 200, generator=random, dtype=torch.float64)
    matrix = matrix + matrix.T
    exact = numpy.linalg.eigvalsh(matrix.numpy())
    pairs = top_eigenpairs(matrix, count=5, tolerance=1e-2, seed=seed)
    for value, vector, residual in zip(pairs.values, pairs.vectors, pairs.residuals, strict=True):
        assert float(residual) == pytest.approx(float((matrix @ vector - value * vector).norm()), rel=1e-6)
        assert numpy.abs(exact - float(value)).min() <= float(residual) * (1 + 1e-9)


def test_running_out_of_products_is_told_not_hidden():
    pairs = top_eigenpairs(Planted(_bulk(2_000, 10.0, 9.9, 9.8, 9.7)), count=4, max_products=5)
    assert pairs.steps == 5
    assert not all(pairs.converged)


def test_an_operator_of_noise_does_not_converge():
    """A library that trusts its own recurrence calls this converged; the measured residual does not."""

    class Noisy(Planted):
        def __matmul__(self, vector: Tensor) -> Tensor:
            random = torch.Generator().manual_seed(self.products)
            noise = torch.randn(len(vector), generator=random, dtype=torch.float64)
            return super().__matmul__(vector) + 0.5 * vector.norm() * noise / math.sqrt(len(vector))

    pairs = top_eigenpairs(Noisy(_bulk(500, 10.0, 5.0)), count=2, max_products=60)
    assert not any(pairs.converged)


def test_a_product_that_is_not_finite_is_an_error():
    class Broken(Planted):
        def __matmul__(self, vector: Tensor) -> Tensor:
            return super().__matmul__(vector) * (math.nan if self.products == 3 else 1)

    with pytest.raises(NumericalError, match="product 3 is not finite"):
        top_eigenpairs(Broken(_bulk(50, 2.0)), count=1)


def test_same_seed_same_answer_other_seed_within_the_residuals():
    operator = Planted(_bulk(3_000, 5.0, 4.0, 3.0))
    first, again, other = (top_eigenpairs(operator, count=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    assert bool(((first.values - other.values).abs() <= first.residuals + other.residuals + 1e-12).all())
