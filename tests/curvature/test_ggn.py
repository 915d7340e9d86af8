import warnings

import pytest
import torch
from torch import Tensor, nn

from sharpcli.curvature.ggn import GGNOperator
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.errors import InputError
from sharpcli.objective import Objective
from tests.device import on_device
from tests.lanes import crossed
from tests.nets import (
    NUM_SAMPLES,
    OnceDifferentiable,
    dense_ggn,
    dense_hessian,
    double_differentiation,
    exact,
    images,
    objective,
    outputs_of,
    relative,
    terms_of,
    vector_for,
)


@pytest.mark.parametrize(
    ("case", "dtype"),
    crossed(
        [
            *((name, "ce", batch) for name in ("mlp", "conv", "attention") for batch in (1, 7, NUM_SAMPLES)),
            *((name, "ce", batch) for name in ("gpt", "lstm") for batch in (7, None)),
            ("mlp", "mse", 7),
            ("gpt", "mse", 7),
        ],
        ["float64", "float32"],
    ),
)
def test_products_agree_with_the_explicit_matrix(case: tuple[str, str, int | None], dtype: str):
    (name, loss, batch), accuracy = case, {"float64": 1e-10, "float32": 2e-6}[dtype]
    made = objective(name, dtype=dtype, loss=loss, chunk_size=batch)
    wanted = exact("ggn", name, loss) @ vector_for(made)
    for memory in (None, 0):
        operator = GGNOperator(made, made.parameters(), memory=memory)
        for _ in range(2):  # An engine that keeps a graph may be right once and wrong the second time.
            assert relative(operator @ vector_for(made).to(made.runtime.dtype), wanted) < accuracy
        assert operator.products == 2


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_it_is_the_hessian_where_the_outputs_are_linear_in_the_parameters(loss: str):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    made = Objective.of(model, *images(), loss=loss, runtime=on_device("float64"), chunk_size=10)
    vector, theta = vector_for(made), made.parameters()
    torch.testing.assert_close(GGNOperator(made, theta) @ vector, HessianOperator(made, theta) @ vector, rtol=1e-12, atol=1e-14)
    other = objective("mlp", loss=loss)
    vector, theta = vector_for(other), other.parameters()
    assert relative(GGNOperator(other, theta) @ vector, HessianOperator(other, theta) @ vector) > 1e-2


def test_linear_and_softmax_regression_are_those_of_the_textbook():
    """XᵀX / N, and (1/N) Σ (diag(p) - ppᵀ) ⊗ xxᵀ (Böhning 1992)."""
    random = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(50, width, generator=random, dtype=torch.float64) for width in (6, 1))
    runtime = on_device("float64")
    line = Objective.of(nn.Linear(6, 1, bias=False), inputs, targets, loss="mse", runtime=runtime, chunk_size=7)
    torch.testing.assert_close(columns(GGNOperator(line, line.parameters())), inputs.T @ inputs / 50, rtol=1e-12, atol=1e-14)
    classes = torch.randint(0, 3, (50,), generator=random)
    made = Objective.of(nn.Linear(6, 3, bias=False), inputs, classes, runtime=runtime, chunk_size=7)
    chances = torch.softmax(inputs @ made.parameters().cpu().view(3, 6).T, 1)
    whole = sum(torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(x, x)) for p, x in zip(chances, inputs, strict=True))
    torch.testing.assert_close(columns(GGNOperator(made, made.parameters())), whole / 50, rtol=1e-12, atol=1e-14)


def columns(operator: GGNOperator) -> Tensor:
    return torch.stack(
        [operator @ row for row in torch.eye(operator.shape[0], dtype=operator.dtype, device=operator.device)]
    ).cpu()


def test_it_is_positive_semidefinite_where_the_hessian_is_not():
    made = Objective.of(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Tanh(), nn.Linear(1, 4)),
        *images(),
        runtime=on_device("float64"),
    )
    values = torch.linalg.eigvalsh(columns(GGNOperator(made, made.parameters())))
    assert float(values[0]) > -1e-14 * float(values[-1])
    assert float(torch.linalg.eigvalsh(dense_hessian(made))[0]) < -1e-3


def test_hessian_minus_ggn_is_the_curvature_of_the_outputs_weighted_by_the_residuals():
    made = objective("mlp", chunk_size=10)
    outputs, terms, theta = outputs_of(made), terms_of(made), made.parameters()
    with double_differentiation():
        residuals = torch.func.grad(lambda answer: terms(answer).sum())(outputs(theta).detach())
        bend = torch.func.jacfwd(torch.func.grad(lambda theta: (residuals * outputs(theta)).sum()))(theta)
    vector = vector_for(made)
    difference = HessianOperator(made, theta) @ vector - GGNOperator(made, theta) @ vector
    assert relative(difference, bend @ vector / NUM_SAMPLES) < 1e-12


def test_agrees_with_curvlinops():
    """An independent implementation: forward differentiation, another library."""
    made = objective("mlp", chunk_size=10)
    batches = [(made.inputs[:64], made.targets[:64]), (made.inputs[64:], made.targets[64:])]
    with warnings.catch_warnings():  # It loads parts of torch that announce their own end.
        warnings.simplefilter("ignore")
        from curvlinops import GGNLinearOperator

        theirs = GGNLinearOperator(made.model, nn.CrossEntropyLoss(), list(made.model.parameters()), batches) @ vector_for(made)
    torch.testing.assert_close(GGNOperator(made, made.parameters()) @ vector_for(made), theirs, rtol=1e-10, atol=1e-12)


class Odd(nn.Module):
    """Unused, frozen, tied and linearly-entering parameters at once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied = nn.Linear(64, 8, bias=False), nn.Linear(64, 8, bias=False)
        self.tied.weight = self.first.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused, self.last = nn.Linear(3, 3), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.flatten(1)
        return self.last(self.frozen(self.first(inputs) * self.tied(inputs)))


def test_unused_frozen_and_tied_parameters():
    made = Objective.of(Odd(), *images(), runtime=on_device("float64"), chunk_size=50)
    product = GGNOperator(made, made.parameters()) @ vector_for(made)
    assert relative(product, dense_ggn(made) @ vector_for(made)) < 1e-12
    assert float(made.space.split(product)["unused.weight"].abs().max()) == 0


def test_selected_parameters_have_their_block_of_the_matrix():
    whole, made = objective("mlp"), objective("mlp", params=("1.*", "5.bias"))
    kept = torch.cat([whole.space.split(torch.arange(whole.space.dimension))[name].flatten() for name in made.space.names])
    assert len(kept) == made.space.dimension < whole.space.dimension
    for operator, dense in ((GGNOperator, dense_ggn), (HessianOperator, dense_hessian)):
        block = dense(whole)[kept][:, kept]
        assert relative(operator(made, made.parameters()) @ vector_for(made), block @ vector_for(made)) < 1e-12


def test_an_operation_without_a_second_derivative_is_refused_if_double_backward_is_asked_for():
    made = Objective.of(OnceDifferentiable(), *images(), runtime=on_device("float64"))
    with pytest.raises(InputError, match="no second derivative"):
        GGNOperator(made, made.parameters(), engine="double-backward")
