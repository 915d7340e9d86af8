"""Derivatives are held to the truth: what torch or a model gets wrong is found, and what is right is never accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sharpcli import progress
from sharpcli.curvature import soundness
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.errors import InputError, NumericalError
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from tests.device import DEVICE, on_device
from tests.nets import NETS, TEXT_NETS, images, objective, relative, vector_for

EXACT, SINGLE = (on_device(dtype) for dtype in ("float64", "float32"))


class Through(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(64, 8), nn.Linear(8, 4), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.function(self.first(inputs.flatten(1))))


def problem_of(model: nn.Module, runtime: Runtime = EXACT) -> Objective:
    torch.manual_seed(0)
    for part in model.parameters():
        nn.init.normal_(part, std=0.3)
    return Objective.of(model.to(runtime.dtype), *images(), runtime=runtime)


def made(problem: Objective, engine: str = "auto", kind: str = "hessian") -> tuple[CurvatureOperator, list[str]]:
    with progress.gathering() as messages:
        return operator_of(kind, problem, problem.parameters(), engine=engine), messages


class KeptTanh(torch.autograd.Function):
    """Right the first time; the second time autograd does not know where the kept number came from."""

    @staticmethod
    def forward(ctx, inputs):
        found = torch.tanh(inputs)
        ctx.slope = 1 - found * found
        return found

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.slope


class DetachedSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0].detach()


class HalfRight(torch.autograd.Function):
    """Its backward is right, and what it says of the derivative of that is off by a tenth."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs**3 / 3

    @staticmethod
    def backward(ctx, slope):
        inputs = ctx.saved_tensors[0]
        return slope * (0.9 * inputs.square() + 0.1 * inputs.square().detach())


class Straight(torch.autograd.Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, inputs):
        return (4 * inputs).round() / 4

    @staticmethod
    def backward(ctx, slope):
        return slope


WRONG_TWICE = {
    "kept": (KeptTanh.apply, torch.tanh),
    "detached": (DetachedSquare.apply, torch.square),
    "a tenth": (HalfRight.apply, lambda x: x**3 / 3),
}


@pytest.mark.parametrize("runtime", [EXACT, SINGLE], ids=["float64", "float32"])
@pytest.mark.parametrize("name", WRONG_TWICE)
def test_a_wrong_second_derivative_is_found_and_differences_are_right(name: str, runtime: Runtime):
    wrong, right = WRONG_TWICE[name]
    problem, usual = problem_of(Through(wrong), runtime), problem_of(Through(right), runtime)
    operator, messages = made(problem)
    assert operator.engine_name == "difference"
    assert ["Double backward is wrong for this model" in message for message in messages] == [True]
    vector = vector_for(problem).to(runtime.dtype)
    accuracy = 1e-8 if runtime is EXACT else 1e-6
    assert relative(operator @ vector, made(usual)[0] @ vector) < accuracy
    for engine in ("double-backward", "fused", "linearize", "forward-over-reverse"):
        with pytest.raises(InputError, match="Double backward is wrong") as error:
            made(problem, engine)
        assert "--engine difference" in error.value.hint


class ByHand(nn.Module):
    """Weight normalisation in plain operations, its parameters in the order of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.length = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(4, 1))
        self.direction = nn.Parameter(torch.zeros(4, 64))

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.length * self.direction / self.direction.norm(dim=1, keepdim=True)
        return functional.linear(inputs, weight, self.bias)


class Stepped(ByHand):
    """The same with norms that are kept in float32, as torch does on CUDA; its gradient is that of the smooth function."""

    def forward(self, inputs: Tensor) -> Tensor:
        norm = self.direction.norm(dim=1, keepdim=True)
        norm = norm + (norm.float().double() - norm).detach()
        return functional.linear(inputs, self.length * self.direction / norm, self.bias)


def is_staircase(problem: Objective) -> bool:
    return soundness._Comparison.of(HessianOperator, problem, problem.parameters()).is_staircase()


@pytest.mark.cpu
def test_a_loss_that_is_a_staircase_is_told_from_others(monkeypatch: pytest.MonkeyPatch):
    """Small steps agree with each other on a wrong product there, so that nothing else tells."""

    def between(layer: nn.Module) -> Objective:
        return problem_of(nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(4, 4)))

    stepped, smooth = between(Stepped()), between(ByHand())
    assert is_staircase(stepped)
    with pytest.raises(InputError, match="rounds to float32"):
        made(stepped, "difference")
    vector, wanted = vector_for(smooth), made(smooth)[0] @ vector_for(smooth)
    with monkeypatch.context() as patch:  # What would be answered otherwise.
        patch.setattr(soundness, "require_fine_rounding", lambda *_: None)
        assert relative(made(stepped, "difference")[0] @ vector, wanted) > 1e-3
    assert not is_staircase(smooth)
    for name in NETS:
        assert not is_staircase(objective(name))
    for function in (torch.relu, functional.hardsigmoid, functional.hardswish, torch.abs, torch.round):
        assert not is_staircase(problem_of(Through(function)))


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["old", "parametrized"])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_weight_norm_of_torch_is_right_whichever_way(norm: Any):
    """On the CPU its double backward is wrong in some versions of torch."""
    problem = problem_of(nn.Sequential(nn.Flatten(), norm(nn.Linear(64, 4)), nn.Tanh(), nn.Linear(4, 4)))
    usual = problem_of(nn.Sequential(nn.Flatten(), ByHand(), nn.Tanh(), nn.Linear(4, 4)))
    assert torch.equal(problem.parameters(), usual.parameters())
    vector = vector_for(usual)
    if DEVICE.type == "cuda":  # It keeps norms in float32, so that differences are wrong, too, and agree with each other.
        with pytest.raises(InputError, match="rounds to float32"):
            made(problem)
        return
    operator, messages = made(problem)
    assert relative(operator @ vector, made(usual)[0] @ vector) < 1e-8
    assert len(messages) == (operator.engine_name == "difference")


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (functional.hardsigmoid, ("hessian", "ggn")),
        (functional.hardswish, ("hessian",)),
        (lambda x: functional.rrelu(x, training=False), ("hessian",)),
    ],
    ids=["hardsigmoid", "hardswish", "rrelu"],
)
def test_an_operation_without_a_second_derivative_goes_by_differences_or_is_right(function: Any, kinds: tuple[str, ...]):
    problem = problem_of(Through(function))
    vector = vector_for(problem)
    for kind in kinds:
        operator, messages = made(problem, kind=kind)
        reference = operator_of(kind, problem, problem.parameters(), engine="difference")
        assert relative(operator @ vector, reference @ vector) < 1e-7
        if operator.engine_name == "difference":
            assert "has no second derivative" in messages[0]


@pytest.mark.parametrize(
    "function",
    [Straight.apply, lambda x: x * torch.sigmoid(x).detach(), lambda x: x - 2 * (x - x.detach())],
    ids=["straight-through", "detached", "reversed"],
)
@pytest.mark.parametrize("engine", ["auto", "double-backward", "difference"])
def test_a_gradient_that_is_not_that_of_the_loss_is_refused(function: Any, engine: str):
    with pytest.raises(InputError, match="not the derivative of its loss") as error:
        made(problem_of(Through(function)), engine)
    assert "no Hessian" in error.value.hint


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("name", [*NETS, *TEXT_NETS])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_right_is_not_accused(kind: str, name: str, dtype: str):
    operator, messages = made(objective(name, dtype=dtype), kind=kind)
    assert operator.engine_name == "double-backward"
    assert messages == []
    assert "not compared" not in operator.engine


class Deep(nn.Module):
    """ReLU, max-pooling and biases of 0, on images with black parts: many units sit exactly on their kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.ReLU())
        self.last = nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.layers(inputs))


@pytest.mark.parametrize("seed", range(10))
def test_kinks_are_no_reason_to_accuse_anyone(seed: int):
    torch.manual_seed(seed)
    model = Deep().double()
    for name, part in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(part)
    inputs, targets = images(seed)
    inputs[:, :, :4] = 0
    inputs[::2] = 0
    problem = Objective.of(model, inputs, targets, runtime=EXACT)
    operator, messages = made(problem)
    assert operator.engine_name == "double-backward"
    assert messages == []


class Recomputed(nn.Module):
    """Calls its layers again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.inner, self.last, self.reentrant = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 4), reentrant

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(inputs.flatten(1)))
        return self.last(checkpoint(lambda x: torch.tanh(self.inner(x)), hidden, use_reentrant=self.reentrant))


class Plain(Recomputed):
    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.tanh(self.inner(torch.tanh(self.first(inputs.flatten(1))))))


class Kinked(nn.Module):
    """A loss that bends sharply where a product of weights and inputs passes a number."""

    def __init__(self, at: Callable[[], float], bend: float) -> None:
        super().__init__()
        self.layer, self.at, self.bend = nn.Linear(64, 4), at, bend

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.layer(inputs.flatten(1))
        bent = outputs[:, :1] + self.bend * (outputs[:, :1] - self.at()).relu()
        return torch.cat([bent, outputs[:, 1:]], 1)


@pytest.mark.parametrize("away", [1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_kink_that_is_nearer_than_most_steps_accuses_nobody(away: float, side: int):
    at = 1e9
    problem = problem_of(Kinked(lambda: at, 0.3))
    kind = OPERATORS["hessian"]
    comparison = soundness._Comparison.of(kind, problem, problem.parameters())
    with torch.no_grad():
        wide = comparison.differences.wide
        reached = wide.outputs(wide.space.split(comparison.point), comparison.chunk.inputs, {})[:, 0]
    at = float(reached[0]) + side * away * float(reached[0].abs())
    comparison.require_slope()


@pytest.mark.parametrize("away", [0.0, 0.5])
def test_recomputed_activations_have_the_weights_that_were_asked_for(away: float):
    """The backward pass calls the model again; with its own weights in place of θ the answer would be another one."""
    problem, usual = problem_of(Recomputed(reentrant=False)), problem_of(Plain(reentrant=False))
    theta = problem.parameters() + away * vector_for(problem, 5)
    assert relative(problem.gradient(theta), usual.gradient(theta)) < 1e-12
    for engine, accuracy in (("double-backward", 1e-11), ("difference", 1e-7)):
        found, wanted = (
            operator_of("hessian", one, theta, engine=chosen) @ vector_for(problem)
            for one, chosen in ((problem, engine), (usual, "double-backward"))
        )
        assert relative(found, wanted) < accuracy


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_reentrant_checkpointing_is_refused_in_words():
    problem = problem_of(Recomputed(reentrant=True))
    with pytest.raises(InputError, match="use_reentrant=True") as error:
        problem.gradient(problem.parameters())
    assert "use_reentrant=False" in error.value.hint


@pytest.mark.parametrize("runtime", [EXACT, SINGLE], ids=["float64", "float32"])
def test_a_second_derivative_that_is_not_finite_is_told_with_its_place(runtime: Runtime):
    problem = problem_of(Through(lambda x: torch.sqrt(torch.relu(x))), runtime)
    operator, _ = made(problem)
    with pytest.raises(NumericalError, match="not finite at these weights: in 'first.weight', 'first.bias'") as error:
        operator @ vector_for(problem).to(runtime.dtype)
    assert "does not help" in error.value.hint
    assert bool(torch.isfinite(made(problem, "difference")[0] @ vector_for(problem).to(runtime.dtype)).all())


class Underflowing(torch.autograd.Function):
    """x + 2 exp(x/2 - 55), whose second derivative takes the root of a number that is 0 in float32."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs + 2 * torch.exp(inputs / 2 - 55)

    @staticmethod
    def backward(ctx, slope):
        return slope * (1 + torch.sqrt(torch.exp(ctx.saved_tensors[0] - 110)))


def test_more_precision_is_advised_where_it_helps():
    problem = problem_of(Through(Underflowing.apply), SINGLE)
    with pytest.raises(NumericalError, match="not finite at these weights") as error:
        made(problem)[0] @ vector_for(problem).float()
    assert "add --dtype float64" in error.value.hint
    double = problem_of(Through(Underflowing.apply))
    assert bool(torch.isfinite(made(double)[0] @ vector_for(double)).all())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factor", [1e-5, 1e-4, 1e4, 1e5])
def test_layers_of_very_different_size_are_not_accused(factor: float, seed: int):
    """A step that is small against all weights together may pass every kink of a small layer."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)).double()
    for part in model[1].parameters():
        part.data *= factor
    model[3].weight.data /= factor
    operator, messages = made(Objective.of(model, *images(seed), runtime=EXACT))
    assert operator.engine_name == "double-backward"
    assert messages == []


class HalfPrecision(Through):
    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(inputs.flatten(1))).half().to(inputs))


def test_sixteen_bits_within_a_model_are_refused():
    """Differences see the steps of rounded numbers only, and must not be taken for the truth."""
    with pytest.raises(InputError, match="not the derivative of its loss") as error:
        made(problem_of(HalfPrecision(None)))
    assert "16-bit" in error.value.hint
