"""R12: the same model, data and loss through other people's code gives the same eigenvalues."""

import itertools
import warnings

import numpy
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from tests.device import on_device
from tests.lanes import thinned
from tests.nets import double_differentiation, images, made_model, objective, relative, vector_for

NETS = ["mlp", "conv"]
HALVES = (64, 39)  # Of 103 samples.


def problem(name: str, dtype: str = "float64") -> Objective:
    """Return a net that curvlinops can differentiate: it has no forward derivative of GroupNorm."""
    if name == "mlp":
        return objective(name, dtype=dtype)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [*made_model("conv")[:3], nn.Conv2d(4, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 4)]
        model = nn.Sequential(*layers).double()
    return Objective.of(model, *images(), runtime=on_device(dtype))


def ours(made: Objective) -> Tensor:
    pairs = eigenpairs(operator_of("hessian", made, made.parameters()), Wanted(5))
    assert set(pairs.verdicts) == {"certified"}
    return pairs.values


def theirs(made: Objective):
    """Return curvlinops' Hessian of the same data in two batches."""
    with warnings.catch_warnings():  # It loads parts of torch that announce their own end.
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator

        batches = list(zip(made.inputs.split(HALVES), made.targets.split(HALVES), strict=True))
        parameters = {name: part for name, part in made.model.named_parameters() if part.requires_grad}
        return HessianLinearOperator(made.model, nn.CrossEntropyLoss(), list(parameters.values()), batches)


@pytest.mark.parametrize(("name", "dtype"), thinned(itertools.product(reversed(NETS), ["float64", "float32"])))
def test_five_eigenvalues_of_curvlinops_and_scipy(name: str, dtype: str):
    accuracy = {"float64": 1e-6, "float32": 1e-4}[dtype]
    """Theirs in float64 to 1e-8; ours in both precisions."""
    operator = theirs(problem(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = eigsh(operator.to_scipy(), k=5, which="LA", tol=1e-8, return_eigenvectors=False)
    assert ours(problem(name, dtype)).numpy() == pytest.approx(numpy.sort(values)[::-1], rel=accuracy)


@pytest.mark.parametrize("name", NETS)
def test_five_eigenvalues_of_hessian_eigenthings(name: str):
    """With the reorthogonalisation that it leaves out by default at 60 steps, and one batch, since it averages means."""
    eigenthings = pytest.importorskip("hessian_eigenthings")
    made = problem(name)
    batch = [(made.inputs, made.targets)]
    operator = eigenthings.HessianOperator(made.model, batch, eigenthings.supervised_loss(nn.functional.cross_entropy))
    found = eigenthings.lanczos(operator, k=5, max_iter=60, reorthogonalize=True, which="LA", seed=0)
    values = numpy.sort(found.eigenvalues.double().numpy())[::-1]
    assert ours(made).numpy() == pytest.approx(values, rel=1e-3)


def test_behind_an_affine_layer_norm_ours_is_the_derivative_of_the_gradient():
    """torch.func, and so curvlinops 3.0.1, is wrong there by per cents (pytorch/functorch#534).

    Theirs is measured by what it rests on, the reverse pass of torch.func differentiated forward under vmap: should the
    control fail one day, that has been repaired, and the language model may join the nets above.
    """
    made = objective("gpt")
    vector, theta, step = vector_for(made), made.parameters(), 1e-6
    difference = (made.gradient(theta + step * vector) - made.gradient(theta - step * vector)) / (2 * step)
    assert relative(operator_of("hessian", made, theta) @ vector, difference) < 1e-7

    def mean(theta: Tensor) -> Tensor:
        outputs = torch.func.functional_call(made.model, made.space.split(theta), (made.inputs,))
        return nn.functional.cross_entropy(outputs.flatten(0, 1), made.targets.flatten())

    with double_differentiation():
        of_torch = torch.func.hessian(mean)(theta) @ vector
    error = relative(of_torch, difference)
    print(f"torch.func.hessian is off by {100 * error:.2g} %")
    assert error > 1e-3
