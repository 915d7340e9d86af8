"""The preconditioned Hessian, held to the dense matrix P^{-1/2} H P^{-1/2} in float64."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import Tensor

from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.curvature.planner import Planner
from sharpcli.curvature.preconditioned import PreconditionedOperator
from sharpcli.errors import SettingsError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.trace import deflated_moments
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from tests.lanes import crossed
from tests.nets import NUM_SAMPLES, exact, objective, relative, vector_for


def scale_for(problem: Objective) -> Tensor:
    """Return P^{-1/2} for a P over six decades, as that of Adam late in a run."""
    return 10 ** (1.5 * torch.tanh(vector_for(problem, seed=5)) + 1.5)


def dense(name: str, scale: Tensor) -> Tensor:
    whole = exact("hessian", name)
    return scale[:, None] * whole * scale


@pytest.mark.parametrize(
    ("case", "dtype", "memory"),
    crossed(
        [("mlp", 7), ("conv", NUM_SAMPLES), ("attention", 7), ("gpt", 7), ("lstm", None)], ["float64", "float32"], [0, None]
    ),
)
def test_products_agree_with_the_explicit_matrix(case: tuple[str, int | None], dtype: str, memory: int | None):
    (name, batch), accuracy = case, {"float64": 1e-10, "float32": 5e-6}[dtype]
    made = objective(name, dtype=dtype, chunk_size=batch)
    scale = scale_for(made)
    operator, vector = PreconditionedOperator(made, made.parameters(), memory=memory, scale=scale), vector_for(made)
    for _ in range(2):
        assert relative(operator @ vector.to(operator.dtype), dense(name, scale) @ vector) < accuracy


@pytest.mark.parametrize(("engine", "dtype"), crossed(HessianOperator.engines, ["float64", "float32"]))
def test_every_engine_of_the_hessian_has_it(engine: str, dtype: str):
    made, accuracy = objective("mlp", dtype=dtype), {"float64": 1e-7, "float32": 5e-6}[dtype]
    scale, vector = scale_for(made), vector_for(made)
    operator = operator_of("preconditioned", made, made.parameters(), engine=engine, scale=scale)
    assert relative(operator @ vector.to(operator.dtype), dense("mlp", scale) @ vector) < accuracy
    assert operator.engine_name == engine


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_intervals_contain_the_eigenvalues_of_the_explicit_matrix(dtype: str):
    made = objective("mlp", dtype=dtype)
    scale = scale_for(made)
    operator = Planner().operator("preconditioned", made, made.parameters(), products=60, scale=scale)
    pairs = eigenpairs(operator, Wanted(4, bottom=1), tolerance=1e-3, max_products=400)
    values = numpy.linalg.eigvalsh(dense("mlp", scale).cpu().numpy())
    for place, wanted in enumerate([*values[::-1][:4], values[0]]):
        low, high = pairs.interval(place)
        assert low <= wanted <= high
        assert pairs.converged[place]


def test_with_p_of_one_it_is_the_hessian():
    made = objective("conv")
    vector, theta = vector_for(made), made.parameters()
    operator = PreconditionedOperator(made, theta, scale=torch.ones_like(theta))
    torch.testing.assert_close(operator @ vector, HessianOperator(made, theta) @ vector, rtol=0, atol=0)


def test_it_is_the_hessian_in_other_coordinates():
    """With θ = P^{-1/2} φ, the second derivative of the loss along φ is vᵀ P^{-1/2} H P^{-1/2} v."""
    made = objective("mlp")
    scale, vector, theta = scale_for(made), vector_for(made), made.parameters()
    vector, step = vector / (scale * vector).norm(), 1e-3
    heights = [made.loss(theta + offset * step * scale * vector) for offset in (-1, 0, 1)]
    bend = (heights[0] - 2 * heights[1] + heights[2]) / step**2
    operator = PreconditionedOperator(made, theta, scale=scale)
    assert float(vector @ (operator @ vector)) == pytest.approx(bend, rel=1e-4)


def test_where_the_scale_is_0_it_is_the_block_of_the_others():
    made = objective("mlp")
    scale, vector = scale_for(made), vector_for(made)
    scale[::3] = 0
    for engine in ("double-backward", "difference"):
        operator = PreconditionedOperator(made, made.parameters(), engine=engine, scale=scale)
        product = operator @ vector
        assert not bool(product[::3].any())
        assert relative(product, dense("mlp", scale) @ vector) < 1e-7


@pytest.mark.parametrize("engine", ["double-backward", "difference"])
def test_groups_of_samples_add_up_to_the_product(engine: str):
    made = objective("mlp")
    scale, vector = scale_for(made), vector_for(made)
    operator = PreconditionedOperator(made, made.parameters(), engine=engine, scale=scale)
    seen = operator.quadratic_forms(vector, groups=6, seed=1)
    product = dense("mlp", scale) @ vector
    assert relative(seen.product, product) < 1e-7
    assert float(seen.weights @ seen.forms / seen.weights.sum()) == pytest.approx(float(vector @ product), rel=1e-7)


def test_the_error_of_rounding_is_that_of_the_scaled_product():
    made = objective("mlp", dtype="float32")
    scale = scale_for(made)
    operator, vector = PreconditionedOperator(made, made.parameters(), scale=scale), vector_for(made).float()
    wanted = dense("mlp", scale) @ vector.double()
    error = float(((operator @ vector).double() - wanted).norm())
    measured = operator.measured_error(vector, float(wanted.norm()))
    assert error / 4 < measured < 4 * error


def test_the_uncertainty_of_differences_is_that_of_the_scaled_product():
    """It bounds the error that is made, and is not larger by what the scale multiplies."""
    made = objective("mlp")
    scale, vector = scale_for(made), vector_for(made)
    vector /= vector.norm()
    operator = PreconditionedOperator(made, made.parameters(), engine="difference", scale=scale)
    error = float((operator @ vector - dense("mlp", scale) @ vector).norm())
    assert error <= operator.product_error <= 1e-4 * float((dense("mlp", scale) @ vector).norm())


def test_its_trace_is_that_of_the_explicit_matrix():
    made = objective("mlp")
    scale = scale_for(made)
    operator = PreconditionedOperator(made, made.parameters(), scale=scale)
    pairs = eigenpairs(operator, Wanted(5), tolerance=1e-4, max_products=200)
    frame = pairs.krylov.frame
    moments = deflated_moments(
        operator,
        basis=pairs.krylov.basis,
        trace_inside=float(numpy.trace(frame.measured)),
        frobenius_squared_inside=float((frame.measured**2).sum() + (frame.coupling**2).sum()),
        half_width=0.01,
        seed=0,
    )
    whole = dense("mlp", scale)
    assert moments.trace.lower <= float(whole.trace()) <= moments.trace.upper


def test_without_second_moments_there_is_none():
    made = objective("mlp")
    with pytest.raises(SettingsError, match="second moments"):
        operator_of("preconditioned", made, made.parameters())
