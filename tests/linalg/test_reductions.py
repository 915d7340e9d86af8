import math
import tracemalloc

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sharpcli.linalg.reductions import combine, dot, gram, norm, project, recombine

MILLIONS = 11_173_962  # Parameters of ResNet-18.


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def localised(size: int) -> Tensor:
    vector = 1e-3 * random(size)
    vector[size // 3] = 1e3
    return vector


def test_norm_of_a_long_float32_vector_is_exact_where_torch_is_not():
    vector = torch.rand(3_000_000, generator=torch.Generator().manual_seed(0))
    exact = numpy.sqrt(numpy.square(vector.cpu().numpy().astype(numpy.float64)).sum())
    assert norm(vector) == pytest.approx(exact, rel=1e-12)
    assert dot(vector, vector) == pytest.approx(exact**2, rel=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: torch.full((size,), 0.1),  # One rounding error again and again: torch.norm is off by 1 %.
        lambda size: random(size).abs(),
        lambda size: random(size) * torch.exp(4 * random(size, seed=1)),
        localised,
        lambda size: (1 - 2 * (torch.arange(size) % 2)) * (1 + 1e-3 * random(size)),
        lambda size: torch.logspace(-15, 15, size),
        lambda size: torch.where(torch.arange(size) % 512 == 0, 1.0, 1e-4),
    ],
    ids=["equal", "positive", "heavy", "localised", "alternating", "thirty decades", "first of each run"],
)
def test_eleven_million_numbers_of_any_kind(make):
    vector = make(MILLIONS)
    exact = float(vector.double().square().sum())
    assert norm(vector) == pytest.approx(math.sqrt(exact), rel=1e-10)
    assert dot(vector, vector) == pytest.approx(exact, rel=1e-10)
    assert float(project(vector.unsqueeze(0), vector)[0]) == pytest.approx(exact, rel=4e-7)


@pytest.mark.parametrize("kind", [localised, lambda size: random(size, seed=2)], ids=["localised", "spread"])
def test_vectors_that_are_orthogonal_are_found_to_be(kind):
    """Sums that grow large before they cancel are where a plain product in float32 is off, by 3e-6 for localised vectors."""
    vector = (kind(MILLIONS // 10) / norm(kind(MILLIONS // 10))).double()
    other = random(MILLIONS // 10, seed=3).double() / 1e3
    other -= (vector @ other) / (vector @ vector) * vector
    vector, other = vector.float(), (other / other.norm()).float()
    assert float(project(vector.unsqueeze(0), other)[0]) == pytest.approx(float(vector.double() @ other.double()), abs=2e-8)


def test_the_sums_of_runs_are_added_in_float64():
    row = torch.full((1, 102 * 512), 0.01)
    row[:, :512], row[:, -512:] = 2.0**20, -(2.0**20)
    assert float(project(row, torch.ones(102 * 512))[0]) == pytest.approx(512, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("length", [1, 5, 511, 512, 513, 2**16, 2**16 + 1, 2**18, 2**18 + 7, 2**19 + 512])
def test_project_and_combine_are_the_two_products_with_the_matrix(length: int, dtype: torch.dtype):
    rows = random(5, length + 3, seed=length, dtype=dtype)[1:4, :length]  # Not contiguous, as are the rows of a basis.
    vector, weights = random(length, seed=1, dtype=dtype), random(3, seed=2, dtype=torch.float64)
    size = rows.double().abs() @ vector.double().abs()
    accuracy = 1e-15 if dtype == torch.float64 else 1e-7
    assert bool(((project(rows, vector) - rows.double() @ vector.double()).abs() <= accuracy * size).all())
    torch.testing.assert_close(combine(weights, rows), (weights @ rows.double()).to(dtype))
    both = torch.stack([weights, 2 * weights])
    torch.testing.assert_close(combine(both, rows), (both @ rows.double()).to(dtype))


def test_project_and_combine_of_no_rows():
    empty = torch.empty(0, 7)
    assert project(empty, torch.ones(7)).shape == (0,)
    assert torch.equal(combine(torch.empty(0), empty), torch.zeros(7))


def test_gram_and_recombine_go_through_all_pieces():
    rows, turn = random(20, 100_003, dtype=torch.float64), torch.linalg.qr(random(20, 20, dtype=torch.float64))[0]
    torch.testing.assert_close(gram(rows), rows @ rows.T)
    expected = turn[:7] @ rows
    recombine(turn[:7], rows)
    torch.testing.assert_close(rows[:7], expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows_in_the_result_and_nowhere_else(value: float):
    vector = torch.ones(1_000)
    vector[700] = value
    assert not math.isfinite(norm(vector))
    assert not math.isfinite(float(project(vector.unsqueeze(0), torch.linspace(-1, 1, 1_000))[0]))


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that was made and is no view of what was there before."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known, self.size = {tensor.untyped_storage().data_ptr() for tensor in known}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.size = max(self.size, tensor.numel())
        return made


def test_no_copy_of_the_matrix_is_made():
    rows, vector = random(50, 400_000), random(400_000, seed=1)
    with Largest(rows, vector) as largest:
        gram(rows)
        combine(torch.ones(50), rows)
        tracemalloc.start()  # It sees what NumPy takes.
        project(rows, vector)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 50 <= largest.size <= 2**20
    assert taken < 2**20
