import warnings

import numpy
import pytest
import torch
from torch import Tensor, nn

from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from tests.device import DEVICE, on_device
from tests.lanes import crossed
from tests.nets import (
    NETS,
    NUM_SAMPLES,
    OnceDifferentiable,
    Tagger,
    data_for,
    dense_ggn,
    dense_hessian,
    exact,
    images,
    objective,
    relative,
    vector_for,
)


@pytest.mark.parametrize(
    ("name", "batch", "dtype", "memory"), crossed(NETS, [1, 7, NUM_SAMPLES], ["float64", "float32"], [0, None])
)
def test_products_agree_with_the_explicit_hessian(name: str, batch: int, dtype: str, memory: int | None):
    whole, accuracy = exact("hessian", name), {"float64": 1e-10, "float32": 2e-6}[dtype]
    made = objective(name, dtype=dtype, chunk_size=batch)
    operator = HessianOperator(made, made.parameters(), memory=memory)
    vector = vector_for(made)
    wanted = whole @ vector
    for _ in range(2):  # An engine that keeps a graph may be right once and wrong the second time.
        product = (operator @ vector.to(operator.dtype)).double()
        assert float((product - wanted).norm() / wanted.norm()) < accuracy
    assert operator.products == 2


@pytest.mark.parametrize(("name", "batch", "dtype"), crossed(NETS, [40, NUM_SAMPLES], ["float64", "float32"]))
def test_top_eigenvalues_agree_with_numpy(name: str, batch: int, dtype: str):
    whole, accuracy = exact("hessian", name), {"float64": 1e-6, "float32": 2e-5}[dtype]
    made = objective(name, dtype=dtype, chunk_size=batch)
    pairs = eigenpairs(HessianOperator(made, made.parameters()), Wanted(5))
    expected = numpy.linalg.eigvalsh(whole.cpu().numpy())[::-1][:5]
    assert pairs.values.cpu().numpy() == pytest.approx(expected, rel=accuracy, abs=accuracy * expected[0])
    assert all(pairs.converged)


def test_linear_regression_has_the_hessian_of_the_textbook():
    """f(w) = (1/N) Σ ½ (w·x_i - y_i)², so H = XᵀX / N at every w."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 6, generator=random, dtype=torch.float64)
    targets = torch.randn(50, 1, generator=random, dtype=torch.float64)
    model = nn.Linear(6, 1, bias=False).double()
    made = Objective.of(model, inputs, targets, loss="mse", runtime=on_device("float64"), chunk_size=7)
    exact = (inputs.T @ inputs / 50).cpu().numpy()
    operator = HessianOperator(made, made.parameters())
    columns = torch.stack([operator @ row for row in torch.eye(6, dtype=torch.float64, device=DEVICE)]).cpu()
    assert columns.cpu().numpy() == pytest.approx(exact, abs=1e-14)
    values = eigenpairs(operator, Wanted(6)).values.cpu().numpy()
    assert values == pytest.approx(numpy.linalg.eigvalsh(exact)[::-1], rel=1e-10)


def test_softmax_regression_has_the_kronecker_hessian():
    """With logits Wx the Hessian is (1/N) Σ (diag(p) - ppᵀ) ⊗ xxᵀ (Böhning 1992)."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=random, dtype=torch.float64)
    targets = torch.randint(0, 4, (40,), generator=random)
    model = nn.Linear(3, 4, bias=False).double()
    chances = torch.softmax(inputs @ model.weight.detach().T, dim=1)
    exact = sum(
        torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(x, x)) for p, x in zip(chances, inputs, strict=True)
    ) / len(inputs)
    made = Objective.of(model, inputs, targets, runtime=on_device("float64"), chunk_size=7)
    operator = HessianOperator(made, made.parameters())
    columns = torch.stack([operator @ row for row in torch.eye(12, dtype=torch.float64, device=DEVICE)]).cpu()
    torch.testing.assert_close(columns, exact, rtol=1e-12, atol=1e-14)


def test_agrees_with_curvlinops():
    """An independent implementation: forward over reverse, another library."""
    made = objective("mlp")
    operator = HessianOperator(made, made.parameters())
    vector = vector_for(made, 0)
    batches = [(made.inputs[:64], made.targets[:64]), (made.inputs[64:], made.targets[64:])]
    with warnings.catch_warnings():  # It loads parts of torch that announce their own end.
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator

        theirs = HessianLinearOperator(made.model, nn.CrossEntropyLoss(), list(made.model.parameters()), batches) @ vector
    torch.testing.assert_close(operator @ vector, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [7, None])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-10), ("float32", 2e-6)])
@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_attention_and_recurrence_over_tokens_just_work(name: str, batch: int | None, dtype: str, accuracy: float):
    """Fused attention and fused recurrent layers have no second derivative: both would raise, or be left out, as they come."""
    made = objective(name, dtype=dtype, chunk_size=batch)
    wanted = exact("hessian", name) @ vector_for(made)
    product = HessianOperator(made, made.parameters()) @ vector_for(made).to(made.runtime.dtype)
    assert relative(product, wanted) < accuracy


def test_products_are_differences_of_gradients():
    """Also behind an affine LayerNorm, where torch.func.hessian, and so curvlinops 3.0.1, is wrong by per cents."""
    made = objective("gpt")
    vector, theta, step = vector_for(made), made.parameters(), 1e-6
    difference = (made.gradient(theta + step * vector) - made.gradient(theta - step * vector)) / (2 * step)
    assert relative(HessianOperator(made, theta) @ vector, difference) < 1e-7


def test_the_product_is_taken_at_the_weights():
    """HessFormer evaluates at the vector: its product is the same when all weights are multiplied by five."""
    made = objective("mlp")
    vector, theta = vector_for(made), made.parameters()
    near, far = HessianOperator(made, theta) @ vector, HessianOperator(made, 5 * theta) @ vector
    assert relative(far, near) > 0.5
    moved = Objective.of(made.model.requires_grad_(), *images(), runtime=made.runtime)
    for parameter in moved.model.parameters():
        parameter.data.mul_(5)
    torch.testing.assert_close(far, HessianOperator(moved, moved.parameters()) @ vector)


def test_the_operator_is_symmetric_and_linear():
    made = objective("conv", chunk_size=10)
    operator = HessianOperator(made, made.parameters())
    first, second = vector_for(made, 0), vector_for(made, 1)
    assert float(first @ (operator @ second)) == pytest.approx(float(second @ (operator @ first)), rel=1e-12)
    torch.testing.assert_close(operator @ (2 * first - second), 2 * (operator @ first) - operator @ second)


class Odd(nn.Module):
    """Unused, frozen, tied and linearly-entering parameters at once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 8, bias=False)
        self.tied = nn.Linear(64, 8, bias=False)
        self.tied.weight = self.first.weight
        self.frozen = nn.Linear(8, 8)
        self.frozen.requires_grad_(False)
        self.unused = nn.Linear(3, 3)
        self.last = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.flatten(1)
        return self.last(self.frozen(self.first(inputs) * self.tied(inputs)))


def test_unused_frozen_and_tied_parameters():
    inputs, targets = images()
    model = Odd().double()
    made = Objective.of(model, inputs, targets, runtime=on_device("float64"), chunk_size=50)
    assert made.space.dimension == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert not any(name.startswith(("frozen", "tied")) for name in made.space.names)
    exact = dense_hessian(made)
    vector = vector_for(made, 0)
    product = HessianOperator(made, made.parameters()) @ vector
    torch.testing.assert_close(product, exact @ vector)
    assert float(made.space.split(product)["unused.weight"].abs().max()) == 0


@pytest.mark.parametrize(("kind", "dense"), [("hessian", dense_hessian), ("ggn", dense_ggn)])
def test_the_padding_row_of_an_embedding_is_a_constant(kind: str, dense):
    """Torch gives it no gradient; the oracle has no padding, and its rows and columns are struck out."""
    inputs, targets = data_for("lstm")
    runtime, padded, plain = on_device("float64"), Tagger(padding=2).double(), Tagger().double()
    plain.load_state_dict(padded.state_dict())
    made = Objective.of(padded, inputs, targets, runtime=runtime, chunk_size=7)
    whole = dense(Objective.of(plain, inputs, targets, runtime=runtime))
    row = slice(8, 12)
    assert float(whole[row].abs().max()) > 0
    whole[row], whole[:, row] = 0, 0
    assert relative(operator_of(kind, made, made.parameters()) @ vector_for(made), whole @ vector_for(made)) < 1e-12


def test_a_loss_that_is_linear_in_every_parameter_has_no_curvature():
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64, dtype=torch.float64, device=DEVICE))

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs.flatten(1) * self.weight).sum(1, keepdim=True)

    class Linear(Objective):
        def loss_sum(self, parameters, chunk):
            return self.outputs(parameters, chunk.inputs, {}).sum()

    inputs, targets = images()
    made = Objective.of(Sum(), inputs, targets.double(), loss="mse", runtime=on_device("float64"))
    linear = Linear(**vars(made))
    product = HessianOperator(linear, linear.parameters()) @ torch.ones(64, dtype=torch.float64, device=DEVICE)
    assert torch.equal(product, torch.zeros_like(product))


def test_an_operation_without_a_second_derivative_is_refused_not_left_out():
    """Autograd would drop its share of the product in silence; a residual cannot see that."""

    made = Objective.of(OnceDifferentiable().double(), *images(), runtime=on_device("float64"))
    with pytest.raises(InputError, match="no second derivative"):
        HessianOperator(made, made.parameters(), engine="double-backward")
