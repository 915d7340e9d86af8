"""The Fisher information by its definition, and its empirical namesake."""

import warnings

import pytest
import torch
from torch import nn

from sharpcli.curvature.empirical_fisher import EmpiricalFisherOperator
from sharpcli.curvature.fisher import FisherOperator
from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective
from tests.device import on_device
from tests.nets import exact, images, objective, outputs_of, relative, vector_for

ACCURACY = [("float64", 1e-10), ("float32", 2e-6)]


@pytest.mark.parametrize("name", ["mlp", "conv", "attention", "gpt", "lstm"])
@pytest.mark.parametrize(("dtype", "accuracy"), ACCURACY)
def test_fisher_is_the_expectation_over_the_classes_that_the_model_predicts(name: str, dtype: str, accuracy: float):
    made = objective(name, dtype=dtype, chunk_size=7)
    wanted = exact("fisher", name) @ vector_for(made)
    assert relative(FisherOperator(made, made.parameters()) @ vector_for(made).to(made.runtime.dtype), wanted) < accuracy


def test_fisher_of_the_squared_error_is_that_of_a_gaussian_of_unit_variance():
    """E over y = z + noise of (Jᵀ(z - y)) (Jᵀ(z - y))ᵀ is JᵀJ; the targets in the data do not matter."""
    inputs, _ = images()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 3))
    for seed in (0, 1):
        targets = torch.randn(len(inputs), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        made = Objective.of(model, inputs, targets, loss="mse", runtime=on_device("float64"), chunk_size=10)
        outputs = outputs_of(made)
        jacobian = torch.func.jacrev(outputs)(made.parameters()).flatten(0, 1)
        wanted = jacobian.T @ (jacobian @ vector_for(made)) / len(inputs)
        assert relative(FisherOperator(made, made.parameters()) @ vector_for(made), wanted) < 1e-12


@pytest.mark.parametrize(("name", "loss"), [("mlp", "ce"), ("mlp", "mse"), ("conv", "ce"), ("attention", "ce"), ("gpt", "ce")])
@pytest.mark.parametrize(("dtype", "accuracy"), ACCURACY)
def test_empirical_fisher_is_the_second_moment_of_the_gradients(name: str, loss: str, dtype: str, accuracy: float):
    made = objective(name, dtype=dtype, loss=loss, chunk_size=7)
    wanted = exact("empirical-fisher", name, loss) @ vector_for(made)
    operator = EmpiricalFisherOperator(made, made.parameters())
    for _ in range(2):
        assert relative(operator @ vector_for(made).to(made.runtime.dtype), wanted) < accuracy


def test_empirical_fisher_agrees_with_curvlinops():
    made = objective("mlp", chunk_size=10)
    batches = [(made.inputs[:64], made.targets[:64]), (made.inputs[64:], made.targets[64:])]
    with warnings.catch_warnings():  # It loads parts of torch that announce their own end.
        warnings.simplefilter("ignore")
        from curvlinops import EFLinearOperator

        theirs = EFLinearOperator(made.model, nn.CrossEntropyLoss(), list(made.model.parameters()), batches) @ vector_for(made)
    torch.testing.assert_close(
        EmpiricalFisherOperator(made, made.parameters()) @ vector_for(made), theirs, rtol=1e-10, atol=1e-12
    )


def test_operators_are_found_by_name():
    made = objective("mlp")
    for name, kind in OPERATORS.items():
        operator = operator_of(name, made, made.parameters(), memory=0)
        assert type(operator) is kind
        words = "double backward" if name == "hessian" else "Jacobian products by double backward"
        assert operator.engine == words
        operator @ vector_for(made)
        assert operator.engine == f"{words}, graphs kept for 0 of 1 chunks"
    with pytest.raises(SettingsError, match="'gnn'") as caught:
        operator_of("gnn", made, made.parameters())
    assert "'ggn'" in caught.value.hint
