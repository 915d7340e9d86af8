"""Products by differences: as exact as they say, also where the net has kinks, and for all operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from tests.device import DEVICE, on_device
from tests.lanes import crossed
from tests.nets import NETS, TEXT_NETS, exact, images, objective, relative, vector_for

EXACT = on_device("float64")


def by_differences(problem: Objective, kind: str = "hessian"):
    return operator_of(kind, problem, problem.parameters(), engine="difference")


@pytest.mark.parametrize(("name", "kind"), crossed([*NETS, *TEXT_NETS], OPERATORS))
def test_every_operator_is_the_explicit_matrix(kind: str, name: str):
    problem = objective(name, chunk_size=7)
    operator = by_differences(problem, kind)
    wanted = exact(kind, name) @ vector_for(problem)
    found = operator @ vector_for(problem)
    assert relative(found, wanted) < 1e-8
    # What is said of the error is not less than the error, up to the rounding of both steps.
    length = float(vector_for(problem).norm())
    assert float((found - wanted).norm()) / length <= 3 * operator.product_error + 1e-12


@pytest.mark.slow
def test_in_single_precision_the_differences_are_in_double_precision():
    double, single = (objective("conv", dtype=dtype) for dtype in ("float64", "float32"))
    assert relative(by_differences(single) @ vector_for(single).float(), exact("hessian", "conv") @ vector_for(double)) < 1e-6


class Kinked(nn.Module):
    """Many ReLUs, of which some are always near their kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.last = nn.Linear(8 * 16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(functional.max_pool2d(torch.relu(self.norm(self.inner(inputs))), 2).flatten(1))


@pytest.mark.parametrize("seed", range(3))
def test_kinks_are_stepped_in_front_of(seed: int):
    """Along the top eigenvector a step of 1e-6 crosses some of 24,576 kinks; the smaller step that agrees does not."""
    torch.manual_seed(seed)
    problem = Objective.of(Kinked().double(), *images(seed), runtime=EXACT)
    plain = operator_of("hessian", problem, problem.parameters())
    for vector in (vector_for(problem, seed), eigenpairs(plain, Wanted(1)).vectors[0]):
        operator = by_differences(problem)
        assert relative(operator @ vector, plain @ vector) < 1e-6
        assert operator.product_error < 1e-5


def test_a_step_that_is_too_long_would_show(monkeypatch: pytest.MonkeyPatch):
    """With one pair of long steps the answer is wrong, and the error that is told says so."""
    torch.manual_seed(0)
    problem = Objective.of(Kinked().double(), *images(0), runtime=EXACT)
    plain = operator_of("hessian", problem, problem.parameters())
    vector = eigenpairs(plain, Wanted(1)).vectors[0]
    monkeypatch.setattr("sharpcli.curvature.difference.STEPS", (1e-2, 1e-3))
    operator = by_differences(problem)
    off = float((operator @ vector - plain @ vector).norm())
    assert off > 1e-3
    assert operator.product_error > off / 10


def test_what_products_are_uncertain_by_is_part_of_every_interval():
    problem = objective("mlp")
    operator = by_differences(problem)
    pairs = eigenpairs(operator, Wanted(3))
    assert 0 < operator.product_error < 1e-8
    assert pairs.trust.noise >= operator.product_error
    eigenvalues = torch.linalg.eigvalsh(exact("hessian", "mlp")).flip(0)
    for place in range(3):
        low, high = pairs.interval(place)
        assert low <= float(eigenvalues[place]) <= high


def test_a_vector_of_zeros_gives_zeros():
    problem = objective("mlp")
    operator = by_differences(problem)
    assert not (operator @ torch.zeros(problem.space.dimension, dtype=torch.float64, device=DEVICE)).any()
    assert operator.product_error == 0


def test_the_sizes_of_vector_and_weights_do_not_matter():
    problem = objective("mlp")
    operator, vector = by_differences(problem), vector_for(problem)
    for factor in (1e-6, 1e6):
        assert relative(operator @ (factor * vector), factor * (operator @ vector)) < 1e-8
    zeros = torch.zeros_like(problem.parameters())
    assert bool(torch.isfinite(operator_of("hessian", problem, zeros, engine="difference") @ vector).all())
