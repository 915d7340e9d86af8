"""The metric of products is the change of products, and the Hessian in its coordinates has the spectrum of the quotient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sharpcli.curvature.head_metric import HeadMetric, MetricOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError
from sharpcli.measures import quotient_sharpness
from sharpcli.models.attention_symmetry import transform_heads
from sharpcli.modules import private_copy
from sharpcli.objective import Objective
from tests.models.test_attention import NETS, Fused, Torch, made
from tests.nets import dense_hessian


def dense(metric: HeadMetric, size: int) -> Tensor:
    return torch.stack([metric @ row for row in torch.eye(size, dtype=torch.float64)])


@pytest.mark.parametrize("name", NETS)
def test_it_measures_how_products_change(name: str):
    """Of one head, with its bias as a column: ‖S⁻¹δ‖² is ‖δQᵀK‖² + ‖QᵀδK‖², from the products themselves."""
    objective = made(NETS[name][0])
    theta = objective.parameters()
    matrix = dense(HeadMetric.of(objective, theta), len(theta))
    torch.testing.assert_close(matrix, matrix.T)
    if name != "fused":
        return
    inverse, parts = torch.linalg.inv(matrix), objective.space.split(theta)
    delta = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change = objective.space.split(delta)
    for part in change.values():
        part.zero_()
    both = torch.cat([parts["qkv.weight"], parts["qkv.bias"][:, None]], 1)
    moves = torch.zeros_like(both)
    moves[0:3], moves[6:9] = torch.randn(3, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    change["qkv.weight"].copy_(moves[:, :6])
    change["qkv.bias"].copy_(moves[:, 6])
    queries, keys = both[0:3], both[6:9]
    wanted = (moves[0:3].T @ keys).square().sum() + (queries.T @ moves[6:9]).square().sum()
    assert float((inverse @ delta).square().sum()) == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize("name", ["fused", "torch", "grouped"])
def test_the_whole_spectrum_stays_under_the_symmetry(name: str):
    model = private_copy(NETS[name][0])
    turned = private_copy(model).double()
    transform_heads(turned, 3.0, seed=2)
    spectra = []
    for one in (model, turned):
        objective = made(one)
        theta = objective.parameters()
        root = dense(HeadMetric.of(objective, theta), len(theta))
        spectra.append(torch.linalg.eigvalsh(root @ dense_hessian(objective) @ root))
    torch.testing.assert_close(spectra[0], spectra[1], rtol=1e-6, atol=1e-9)
    found = [quotient_sharpness.read(made(one), made(one).parameters()).value for one in (model, turned)]
    assert found[0] == pytest.approx(float(spectra[0][-1]), rel=1e-4)
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_the_operator_is_the_dense_one():
    objective = made(Torch())
    theta = objective.parameters()
    metric = HeadMetric.of(objective, theta)
    root, vector = dense(metric, len(theta)), torch.randn(len(theta), dtype=torch.float64)
    operator = MetricOperator(operator_of("hessian", objective, theta), metric)
    torch.testing.assert_close(operator @ vector, root @ dense_hessian(objective) @ root @ vector, rtol=1e-8, atol=1e-10)


def test_without_known_attention_it_is_the_largest_eigenvalue():
    for model in (Fused(interleaved=True), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 4))):
        objective = made(model)
        found: Any = quotient_sharpness.read(objective, objective.parameters())
        assert found.details["heads"] == 0
        assert found.value == pytest.approx(float(torch.linalg.eigvalsh(dense_hessian(objective))[-1]), rel=1e-5)


def test_dependent_weights_are_refused():
    model = Fused(interleaved=False).double()
    with torch.no_grad():
        model.qkv.weight[6:9], model.qkv.bias[6:9] = 1.0, 0.0
    objective: Objective = made(model)
    with pytest.raises(InputError, match="linearly dependent"):
        quotient_sharpness.read(objective, objective.parameters())
