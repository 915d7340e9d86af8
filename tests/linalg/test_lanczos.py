import math

import numpy
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from sharpcli.errors import NumericalError, SettingsError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from tests.device import DEVICE
from tests.lanes import crossed
from tests.linalg.spectra import Planted, broad

LARGE = 100_000
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def bulk(size: int, *outliers: float) -> Tensor:
    rest = torch.linspace(-0.1, 0.1, size - len(outliers), dtype=torch.float64)
    return torch.cat([torch.tensor(outliers, dtype=torch.float64), rest])


def accuracy(dtype: torch.dtype) -> float:
    return 1e-6 if dtype == torch.float64 else 1e-5


PLANTS = {
    "ten to one": (bulk(LARGE, *range(10, 0, -1)), Wanted(10), list(range(10, 0, -1))),
    "negative ones": (bulk(LARGE, 3, 2, -4, -5), Wanted(2, bottom=2), [3, 2, -4, -5]),
    "plus and minus": (bulk(LARGE, 1, -0.98), Wanted(1, bottom=1), [1, -0.98]),
    "smallest": (bulk(LARGE, 1, -0.98, -0.5), Wanted(2, "SA"), [-0.98, -0.5]),
    "largest magnitude": (bulk(LARGE, 1, -2, 3), Wanted(3, "LM"), [3, -2, 1]),
    "five equal": (bulk(LARGE, *[10] * 5), Wanted(5), [10] * 5),
    "five equal, others below": (bulk(LARGE, *[10] * 5, 9, 8, 7, 6, 5), Wanted(5), [10] * 5),
    "three equal in the middle": (bulk(LARGE, 10, 9, 9, 9, 8, 7), Wanted(5), [10, 9, 9, 9, 8]),
    "equal at both ends": (bulk(LARGE, 5, 5, -5, -5), Wanted(2, bottom=2), [5, 5, -5, -5]),
    "tiny": (1e-8 * bulk(LARGE, 5, 3, 2), Wanted(3), [5e-8, 3e-8, 2e-8]),
    "huge": (1e8 * bulk(LARGE, 5, 3, 2), Wanted(3), [5e8, 3e8, 2e8]),
    "rank two": (torch.cat([torch.tensor([4.0, -2.0]), torch.zeros(LARGE - 2)]), Wanted(1, bottom=1), [4, -2]),
    "all equal": (torch.full((LARGE,), 3.0), Wanted(3, bottom=1), [3, 3, 3, 3]),
}


@pytest.mark.parametrize(("name", "dtype"), crossed(PLANTS, [torch.float64, torch.float32]))
def test_planted_spectra_are_found_and_certified(name: str, dtype: torch.dtype):
    spectrum, wanted, expected = PLANTS[name]
    operator = Planted(spectrum, dtype)
    pairs = eigenpairs(operator, wanted)
    assert pairs.values.tolist() == pytest.approx(expected, rel=accuracy(dtype))
    assert set(pairs.verdicts) == {"certified"}
    assert operator.products == pairs.steps + pairs.confirmations + pairs.verifications
    for place, exact in enumerate(expected):
        low, high = pairs.interval(place)
        assert low <= float(torch.tensor(exact, dtype=dtype)) <= high
    assert pairs.trust.orthogonality < 1e-5


@pytest.mark.parametrize(("size", "seed", "dtype"), crossed([50, 2000], range(5), [torch.float64, torch.float32]))
def test_every_copy_of_an_eigenvalue_is_listed(size: int, seed: int, dtype: torch.dtype):
    """One Krylov space holds one vector of each eigenspace; the others come from the random vectors outside it."""
    for tops in ([10] * 5 + [9, 8, 7], [10, 9, 9, 9, 8, 7, 6], [10, 10, 9, 9, 8, 8]):
        pairs = eigenpairs(Planted(bulk(size, *tops), dtype), Wanted(5), seed=seed)
        assert pairs.values.tolist() == pytest.approx(tops[:5], rel=1e-4)


@DTYPES
def test_zeros_have_the_interval_of_rounding_and_no_certificate(dtype: torch.dtype):
    """The sign of such an eigenvalue is not known, and no number of products would tell."""
    pairs = eigenpairs(Planted(torch.tensor([4.0, 2.0] + [0.0] * 98), dtype), Wanted(4))
    assert pairs.verdicts == ("certified", "certified", "noise-limited", "noise-limited")
    assert pairs.values.tolist() == pytest.approx([4, 2, 0, 0], abs=2e-5)
    assert pairs.interval(3)[0] <= 0 <= pairs.interval(3)[1]


@pytest.mark.parametrize(
    ("spectrum", "wanted", "expected"),
    [
        ([0.0] * 100, Wanted(2, bottom=1), [0, 0, 0]),
        ([7.0], Wanted(1), [7]),
        ([7.0], Wanted(1, bottom=1), [7, 7]),
        ([-1.0, -2.0, -3.0], Wanted(3), [-1, -2, -3]),
        ([5.0, 5.0, 5.0, 1.0], Wanted(4), [5, 5, 5, 1]),
    ],
    ids=["zero", "one by one", "one by one, both ends", "negative, whole space", "whole space"],
)
@DTYPES
def test_small_and_degenerate_matrices(spectrum: list[float], wanted: Wanted, expected: list[float], dtype: torch.dtype):
    pairs = eigenpairs(Planted(torch.tensor(spectrum), dtype), wanted)
    assert pairs.values.tolist() == pytest.approx(expected, abs=1e-5)
    assert set(pairs.verdicts) == {"certified"}


@pytest.mark.parametrize(("rows", "dtype"), crossed([24, 30, 60], [torch.float64, torch.float32]))
def test_restarts_within_a_memory_budget_find_the_same(rows: int, dtype: torch.dtype):
    spectrum = broad(5_000)
    operator = Planted(spectrum, dtype)
    free = eigenpairs(operator, Wanted(8, bottom=2), max_products=2_000)
    tight = eigenpairs(operator, Wanted(8, bottom=2), max_products=2_000, memory=(rows + 12) * 5_000 * dtype.itemsize)
    assert len(tight.krylov.rows) <= rows
    assert tight.restarts > 0
    assert free.restarts == 0
    assert tight.values.cpu().numpy() == pytest.approx(free.values.cpu().numpy(), rel=1e-5)
    assert tight.trust.orthogonality < 1e-5
    exact = spectrum.sort(descending=True).values
    assert tight.values.cpu().numpy() == pytest.approx([*exact[:8].tolist(), *exact[-2:].tolist()], rel=1e-5)


def test_memory_for_too_few_vectors_is_refused_before_any_product():
    operator = Planted(broad(5_000))
    with pytest.raises(SettingsError, match="18 are needed") as error:
        eigenpairs(operator, Wanted(10), memory=10 * 5_000 * 8)
    assert operator.products == 0
    enough = int(error.value.remedy.removeprefix("memory=").removesuffix("MiB")) * 2**20
    assert set(eigenpairs(operator, Wanted(10), memory=enough, max_products=2_000).verdicts) == {"certified"}


def test_an_eigenvalue_is_never_more_than_the_matrix_has():
    """Cauchy's interlacing theorem: the i-th Ritz value of an orthonormal basis is no larger than the i-th eigenvalue."""
    spectrum = broad(2_000)
    exact = spectrum.sort(descending=True).values
    for products in range(5, 40):
        pairs = eigenpairs(Planted(spectrum), Wanted(5), max_products=products)
        assert bool((pairs.values <= exact[:5] * (1 + 1e-12)).all())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_residuals_are_those_of_the_vectors_and_bound_the_error(seed: int):
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(200, 200, generator=random, dtype=torch.float64)
    matrix = matrix + matrix.T
    exact = numpy.linalg.eigvalsh(matrix.cpu().numpy())
    pairs = eigenpairs(matrix, Wanted(5, bottom=3), tolerance=1e-2, seed=seed, verify="ends")
    assert pairs.verified == (True, *[False] * 6, True)
    for value, vector, residual in zip(pairs.values, pairs.vectors, pairs.residuals, strict=True):
        assert float(residual) == pytest.approx(float((matrix @ vector - value * vector).norm()), rel=1e-6)
        assert numpy.abs(exact - float(value)).min() <= float(residual) * (1 + 1e-9)


def test_all_can_be_verified():
    operator = Planted(broad(2_000), torch.float32)
    pairs = eigenpairs(operator, Wanted(5, bottom=1), verify="all")
    assert all(pairs.verified)
    assert operator.products == pairs.steps + pairs.confirmations + 6
    for value, vector in zip(pairs.values, pairs.vectors, strict=True):
        wide, product = vector.double(), (operator @ vector).double()
        assert float(value) == pytest.approx(float((wide @ product) / (wide @ wide)), rel=1e-12)


def test_the_basis_is_inspected_before_anything_is_certified():
    pairs = eigenpairs(Planted(broad(2_000), torch.float32), Wanted(5))
    assert 0 < pairs.trust.orthogonality == pairs.krylov.inspect() < 1e-5


def test_running_out_of_products_is_told_not_hidden():
    pairs = eigenpairs(Planted(bulk(2_000, 10.0, 9.9, 9.8, 9.7)), Wanted(4), max_products=5)
    assert pairs.steps == 5
    assert pairs.ended == "products"
    assert "budget-limited" in pairs.verdicts
    assert not all(pairs.converged)


def test_running_out_of_time_is_told_too():
    pairs = eigenpairs(Planted(bulk(2_000, 10.0, 9.9)), Wanted(2), max_seconds=0)
    assert pairs.ended == "seconds"
    assert "budget-limited" in pairs.verdicts


class Noisy(Planted):
    """Adds to each product noise of a given length relative to it, another one each time: dropout, in short."""

    level = 0.5

    def __matmul__(self, vector: Tensor) -> Tensor:
        product = super().__matmul__(vector)
        noise = torch.randn(len(vector), generator=torch.Generator().manual_seed(self.products), dtype=torch.float64).to(
            self.device
        )
        return product + (self.level * product.norm() * noise / math.sqrt(len(vector))).to(product.dtype)


@pytest.mark.parametrize("size", [500, 20_000])
@pytest.mark.parametrize("level", [1.0, 0.1, 0.03])
@DTYPES
def test_an_operator_of_noise_is_refused(level: float, size: int, dtype: torch.dtype):
    """Libraries that trust their own recurrence call this converged; here the products are compared with each other."""
    operator = Noisy(bulk(size, 10.0, 5.0), dtype)
    operator.level = level
    pairs = eigenpairs(operator, Wanted(2), max_products=60)
    assert set(pairs.verdicts) == {"refused"}
    assert "not deterministic" in pairs.trust.refusal


@pytest.mark.parametrize("level", [1e-3, 1e-4])
def test_a_little_noise_limits_what_can_be_certified(level: float):
    operator = Noisy(bulk(5_000, 10.0, 1.0))
    operator.level = level
    pairs = eigenpairs(operator, Wanted(2), tolerance=level / 2, max_products=60)
    assert "certified" not in pairs.verdicts
    low, high = pairs.interval(0)
    assert low <= 10 <= high
    assert pairs.trust.noise > 0.1 * level


def test_a_matrix_that_is_not_symmetric_is_noticed():
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(300, 300, generator=random, dtype=torch.float64) / 10 + torch.diag(torch.linspace(0, 5, 300))
    pairs = eigenpairs(matrix, Wanted(2), max_products=60)
    assert set(pairs.verdicts) == {"refused"}


def test_a_product_that_is_not_finite_is_an_error():
    class Broken(Planted):
        def __matmul__(self, vector: Tensor) -> Tensor:
            return super().__matmul__(vector) * (math.nan if self.products == 3 else 1)

    with pytest.raises(NumericalError, match="product 3 is not finite"):
        eigenpairs(Broken(bulk(50, 2.0)), Wanted(1))


def test_same_seed_same_answer_other_seed_within_the_intervals():
    operator = Planted(bulk(3_000, 5.0, 4.0, 3.0))
    first, again, other = (eigenpairs(operator, Wanted(3), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    for place in range(3):
        low, high = first.interval(place)
        assert low <= float(other.values[place]) <= high


def test_a_warm_start_saves_products_and_changes_no_value():
    spectrum = broad(5_000)
    before = eigenpairs(Planted(spectrum), Wanted(5))
    moved = spectrum * (1 + 0.02 * torch.sin(torch.arange(5_000)))
    cold = eigenpairs(Planted(moved), Wanted(5))
    warm = eigenpairs(Planted(moved), Wanted(5), warm=before.vectors)
    assert warm.steps < cold.steps
    assert warm.values.cpu().numpy() == pytest.approx(cold.values.cpu().numpy(), rel=1e-6)
    assert warm.ceiling >= float(moved.max())


@pytest.mark.parametrize("wanted", [Wanted(1), Wanted(5), Wanted(10), Wanted(5, bottom=1)], ids=str)
def test_no_more_products_than_scipy_at_the_same_residual(wanted: Wanted):
    operator = Planted(broad(3_000))
    ours = eigenpairs(operator, wanted)
    spent = operator.products
    operator.products = 0
    theirs = LinearOperator(
        operator.shape, matvec=lambda v: (operator @ torch.from_numpy(v).flatten().to(DEVICE)).cpu().numpy(), dtype=float
    )
    worst = 1.0
    tolerance = 1e-3
    while worst > 1e-3:  # Its tolerance is not that of the residual; lower it until the residual is as asked.
        operator.products = 0
        parts = [("LA", wanted.count)] + ([("SA", wanted.bottom)] if wanted.bottom else [])
        found = [eigsh(theirs, k=count, which=end, tol=tolerance, v0=numpy.ones(3_000)) for end, count in parts]
        counted = operator.products + wanted.total  # Its residuals have to be measured to be known; ours are, or follow.
        worst = max(
            float((operator @ vector - value * vector).norm() / abs(value))
            for values, vectors in found
            for value, vector in zip(values, torch.from_numpy(vectors.T.copy()).to(DEVICE), strict=True)
        )
        tolerance /= 10
    assert set(ours.verdicts) == {"certified"}
    assert spent <= counted
