import math

import numpy
import pytest
import torch
from torch import Tensor

from sharpcli.linalg.krylov import Krylov
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.reductions import norm
from tests.linalg.waits import Waits

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
SIZE = 3_000


def orthonormal(count: int, dtype: torch.dtype) -> Tensor:
    drawn = torch.randn(SIZE, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(drawn)[0].T.contiguous().to(dtype)


def test_what_the_counter_counts():
    with Waits() as waits:
        vector = torch.ones(3)
        float(vector.sum())
        vector.cpu()
        bool(vector.any())
    assert waits.count == 3


@DTYPES
@pytest.mark.parametrize("near", [(), (2,), (5, 1)], ids=str)
@pytest.mark.parametrize("inside", [1e-3, 1.0, 1e3, 1e5])
def test_what_is_left_is_orthogonal_and_nothing_is_lost(inside: float, near: tuple[int, ...], dtype: torch.dtype):
    eps = torch.finfo(dtype).eps
    everything = orthonormal(21, dtype)
    blocks, rest = [everything[:15], everything[15:20]], everything[20]
    parts = inside * torch.linspace(-1, 1, 20, dtype=dtype)
    vector = rest + parts @ everything[:20]
    before = vector.clone()
    orthogonal = orthogonalised(vector, blocks, near=near)
    assert torch.equal(vector, before)
    assert float((everything[:20].double() @ orthogonal.vector.double()).abs().max()) <= 2 * eps * orthogonal.length
    assert orthogonal.length == pytest.approx(norm(orthogonal.vector), rel=2 * eps)
    assert orthogonal.length == pytest.approx(1, rel=10 * eps * (1 + inside))
    assert orthogonal.norm_before == pytest.approx(norm(vector), rel=10 * eps)
    made = orthogonal.vector.double() + torch.from_numpy(orthogonal.removed) @ everything[:20].double()
    assert float((made - vector.double()).norm()) <= 4 * eps * norm(vector)
    assert orthogonal.components == pytest.approx(parts.double().cpu().numpy(), abs=10 * eps * norm(vector))


@DTYPES
def test_a_part_that_is_rounding_is_found_but_not_taken(dtype: torch.dtype):
    eps, axes = torch.finfo(dtype).eps, torch.eye(4, 900, dtype=dtype)
    little, more = axes[3] + eps / 2 * axes[1], axes[3] + 2 * eps * axes[1]
    orthogonal = orthogonalised(little, [axes[:3]])
    assert orthogonal.vector is little
    assert (orthogonal.removed.tolist(), orthogonal.components.tolist()) == ([0, 0, 0], [0, eps / 2, 0])
    orthogonal = orthogonalised(more, [axes[:3]])
    assert torch.equal(orthogonal.vector, axes[3])
    assert orthogonal.removed.tolist() == orthogonal.components.tolist() == [0, 2 * eps, 0]
    orthogonal = orthogonalised(little + 8 * eps * axes[2], [axes[:2], axes[2:3]])
    assert torch.equal(orthogonal.vector, little)
    assert (orthogonal.removed.tolist(), orthogonal.components.tolist()) == ([0, 0, 8 * eps], [0, eps / 2, 8 * eps])


@DTYPES
def test_rows_far_from_any_part_worth_taking_are_left_alone(dtype: torch.dtype):
    eps, axes = torch.finfo(dtype).eps, torch.eye(12, 900, dtype=dtype)
    sizes = torch.tensor([8, 0, 0, 0.5, 8, 0, 0.5, 0, 0, 8, 0.25], dtype=dtype)
    orthogonal = orthogonalised(axes[11] + eps * sizes @ axes[:11], [axes[:11]])
    assert (orthogonal.components / eps).tolist() == sizes.tolist()
    assert (orthogonal.removed / eps).tolist() == [8, 0, 0, 0.5, 8, 0, 0, 0, 0, 8, 0]
    assert (orthogonal.vector[:12] / eps).tolist() == [0, 0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.25, 1 / eps]


@DTYPES
def test_one_pass_is_enough_where_the_large_parts_are_known(dtype: torch.dtype):
    everything = orthonormal(21, dtype)
    vector = everything[20] + 100 * everything[18] + 30 * everything[19]
    both, counts = [], []
    for near in ((), (2,)):
        with Waits() as waits:
            both.append(orthogonalised(vector, [everything[:20]], near=near))
        counts.append(waits.count)
    assert counts == [2, 1]
    assert both[0].removed == pytest.approx(both[1].removed, abs=1e3 * torch.finfo(dtype).eps)


def test_a_vector_that_the_rows_span_leaves_rounding():
    everything = orthonormal(21, torch.float64)
    orthogonal = orthogonalised(everything[:20].sum(0), [everything[:20]])
    assert orthogonal.length < 1e-14
    assert orthogonalised(torch.zeros(SIZE, dtype=torch.float64), [everything]).length == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_finite_length(value: float):
    everything = orthonormal(21, torch.float32)
    vector = everything[20] + everything[19]
    vector[5] = value
    for near in ((), (1,)):
        assert not math.isfinite(orthogonalised(vector, [everything[:20]], near=near).length)


def test_the_place_for_the_result_may_be_the_vector_or_another_one():
    everything = orthonormal(21, torch.float64)
    vector, place = everything[20] + everything[3], torch.empty(SIZE, dtype=torch.float64)
    orthogonal = orthogonalised(vector, [everything[:20]], out=place)
    assert orthogonal.vector.data_ptr() == place.data_ptr()
    again = orthogonalised(vector, [everything[:20]], out=vector)
    assert again.vector.data_ptr() == vector.data_ptr()
    assert torch.equal(orthogonal.vector, again.vector)


def test_a_product_that_carries_a_graph_is_taken_as_numbers():
    everything = orthonormal(21, torch.float64)
    orthogonal = orthogonalised((everything[20] + everything[3]).requires_grad_(), [everything[:20]], near=(20,))
    assert not orthogonal.vector.requires_grad


class Diagonal:
    """Its eigenvectors are single coordinates: what is worst for sums in float32, and like the last layer of a net."""

    def __init__(self, size: int) -> None:
        self.shape, self.dtype, self.device = (size, size), torch.float32, torch.device("cpu")
        self.entries = torch.arange(1, size + 1, dtype=torch.float64).pow(-1.3).float()

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.entries * vector


def test_localised_vectors_stay_orthogonal():
    """With the sums of plain float32 products of 16,384 elements the largest cosine is 3e-6 here."""
    krylov = Krylov(Diagonal(250_000), capacity=40, seed=0)
    for _ in range(40):
        krylov.step()
    basis = krylov.basis.double()
    assert float((basis @ basis.T - torch.eye(40)).abs().max()) < 5e-7
    assert krylov.inspect() < 2e-6
    values, _, _ = krylov.ritz()
    assert values[-3:][::-1] == pytest.approx(numpy.arange(1, 4) ** -1.3, rel=3e-7)
