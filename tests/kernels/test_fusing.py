"""Models that run with kernels of our own: the same numbers to rounding, whatever the model does, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sharpcli import progress
from sharpcli.curvature import kept
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError
from sharpcli.kernels import gemm
from sharpcli.kernels.fusing import Fusing
from sharpcli.objective import Objective
from sharpcli.trial_passes import num_fusible
from tests.device import on_device
from tests.lanes import crossed, thinned
from tests.nets import DENSE, NETS, TEXT_NETS, Storages, exact, images, objective, relative, unsettled, vector_for

KINDS = ("hessian", "ggn", "empirical-fisher")
SAMPLES = 12
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
VIEWS = {1: (4, 16), 2: (1, 8, 8), 3: (1, 4, 4, 4)}


class Whole(nn.Module):
    """Some layers over pictures of one to three dimensions, and what makes four classes of what comes out of them."""

    def __init__(self, layers: nn.Module, axes: int = 2) -> None:
        super().__init__()
        self.layers, self.axes = layers, axes
        with torch.no_grad():
            self.last = nn.Linear(layers.double()(torch.zeros(1, *VIEWS[axes], dtype=torch.float64)).numel(), 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.layers(inputs.view(-1, *VIEWS[self.axes])).tanh().flatten(1))


class Steps(nn.Module):
    """A convolution, a BatchNorm, and what is done with both."""

    def __init__(self, step: Callable[[Any, Tensor], Tensor], **options: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, **options), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.step = nn.BatchNorm2d(3), step

    def forward(self, inputs: Tensor) -> Tensor:
        return self.step(self, inputs)


def block(axes: int, *, bias: bool = True, affine: bool = True, **options: Any) -> nn.Module:
    channels = VIEWS[axes][0] * options.get("groups", 1)
    layers = [CONVOLUTIONS[axes](channels, 4, 3, bias=bias, **options), NORMS[axes](4, affine=affine)]
    return Whole(nn.Sequential(*layers), axes)


def around(self: Steps, inputs: Tensor) -> Tensor:
    convolved = self.first(inputs)
    return self.norm(convolved).tanh() + convolved


def added_in_place(self: Steps, inputs: Tensor) -> Tensor:
    convolved = self.first(inputs)
    convolved += 0.5
    return self.norm(convolved)


def changed_through_a_view(self: Steps, inputs: Tensor) -> Tensor:
    convolved = self.first(inputs)
    convolved[:, 1] *= 2
    return self.norm(convolved)


def rectified_in_place(self: Steps, inputs: Tensor) -> Tensor:
    return self.norm(functional.relu_(self.first(inputs)))


def changed_afterwards(self: Steps, inputs: Tensor) -> Tensor:
    return functional.relu_(self.norm(self.first(inputs))) * 2


def one_by_one(self: Steps, inputs: Tensor) -> Tensor:
    return self.norm(torch.stack([self.first(one) for one in inputs]))


def twice_the_same(self: Steps, inputs: Tensor) -> Tensor:
    return self.second(self.norm(self.second(self.first(inputs))).tanh())


def normalised_twice(self: Steps, inputs: Tensor) -> Tensor:
    convolved = self.first(inputs)
    return self.norm(self.norm(convolved)) * self.norm(convolved)


def standardised(self: Steps, inputs: Tensor) -> Tensor:
    weight = self.first.weight / self.first.weight.norm()
    return self.norm(functional.conv2d(inputs, weight, self.first.bias * 2, padding=1))


def without_gradient(self: Steps, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        convolved = self.first(inputs)
    return self.second(self.norm(convolved))


def by_name(self: Steps, inputs: Tensor) -> Tensor:
    convolved = functional.conv2d(weight=self.first.weight, input=inputs, stride=[2, 1], padding=(1,))
    named = {"running_var": self.norm.running_var, "running_mean": self.norm.running_mean, "bias": self.norm.bias}
    return functional.batch_norm(convolved, weight=self.norm.weight, eps=0.1, **named)


def into_another_shape(self: Steps, inputs: Tensor) -> Tensor:
    convolved = self.first(inputs)
    return (
        self.norm(convolved.transpose(2, 3))
        + self.norm(convolved.clone())
        + self.norm(functional.dropout(convolved, training=False))
    )


def with_tied_weights() -> nn.Module:
    layers = Steps(lambda self, inputs: self.second(self.norm(self.other(self.first(inputs)))))
    layers.other = nn.Conv2d(3, 3, 3, padding=1)
    layers.other.weight = layers.second.weight
    return layers


def steps(step: Callable[..., Tensor], **options: Any) -> nn.Module:
    return Whole(Steps(step, **options))


def frozen() -> nn.Module:
    model = steps(without_gradient)
    model.layers.first.requires_grad_(False)
    return model


def plain(self: Steps, inputs: Tensor) -> Tensor:
    return self.norm(self.first(inputs))


def nested() -> nn.Module:
    inner = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True)))
    return Whole(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(inner, nn.GroupNorm(3, 3)), nn.BatchNorm2d(3), nn.AvgPool2d(2))
    )


def by_hand(self: Steps, inputs: Tensor) -> Tensor:
    unfolded = functional.unfold(inputs, 3).transpose(1, 2) @ self.first.weight.flatten(1).T
    return unfolded.transpose(1, 2).unflatten(2, (6, 6)) * self.norm.weight[:, None, None]


# Each with the number of calls that are taken over.
MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{f"{axes}d": (lambda axes=axes: block(axes), 2) for axes in CONVOLUTIONS},
    **{f"{axes}d, no bias": (lambda axes=axes: block(axes, bias=False), 2) for axes in CONVOLUTIONS},
    **{f"{axes}d, not affine": (lambda axes=axes: block(axes, affine=False), 2) for axes in CONVOLUTIONS},
    "nothing to learn but weights": (lambda: block(2, bias=False, affine=False), 2),
    "stride, dilation": (lambda: block(2, stride=2, dilation=2, padding=2), 2),
    "groups": (lambda: Whole(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 2, groups=4), nn.BatchNorm2d(8))), 3),
    "no convolution before": (lambda: Whole(nn.Sequential(nn.BatchNorm2d(1), nn.Tanh(), nn.Conv2d(1, 2, 3))), 2),
    "table": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4)), 1),
    "padding in words": (lambda: steps(plain, padding="same"), 1),
    "circular padding": (lambda: steps(plain, padding=1, padding_mode="circular"), 2),
    "transposed": (lambda: Whole(nn.Sequential(nn.ConvTranspose2d(1, 3, 3), nn.BatchNorm2d(3))), 1),
    "around": (lambda: steps(around), 2),
    "added in place": (lambda: steps(added_in_place), 2),
    "changed through a view": (lambda: steps(changed_through_a_view), 2),
    "rectified in place": (lambda: steps(rectified_in_place), 2),
    "changed afterwards": (lambda: steps(changed_afterwards), 2),
    "one by one": (lambda: steps(one_by_one), 1),
    "twice the same": (lambda: steps(twice_the_same), 4),
    "normalised twice": (lambda: steps(normalised_twice), 4),
    "standardised": (lambda: steps(standardised), 2),
    "without gradient": (frozen, 2),
    "by name": (lambda: steps(by_name), 2),
    "into another shape": (lambda: steps(into_another_shape), 4),
    "tied weights": (lambda: Whole(with_tied_weights()), 4),
    "nested": (nested, 4),
    "nothing to take over": (lambda: steps(by_hand), 0),
}


def problem(make: Callable[[], nn.Module], **options: Any) -> Objective:
    inputs, targets = images()
    options = {"runtime": on_device("float64"), "chunk_size": 7} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Objective.of(unsettled(make()), inputs[:SAMPLES], targets[:SAMPLES], **options)


def fused(made: Objective, kind: str = "hessian", **options: Any) -> CurvatureOperator:
    """Return the operator with the engine in use: were it wrong, it would not be, with a warning."""
    with progress.gathering() as messages:
        operator = operator_of(kind, made, made.parameters(), engine="fused", **options)
    assert messages == []
    assert operator.engine_name == "fused"
    return operator


@pytest.mark.parametrize("name", thinned(MODELS, 4))
def test_every_product_and_the_gradient_are_those_of_the_plain_model(name: str):
    made = problem(MODELS[name][0])
    vector, theta = vector_for(made), made.parameters()
    for kind in KINDS:
        operator, usual = fused(made, kind), operator_of(kind, made, theta)
        for _ in range(2):
            assert relative(operator @ vector, usual @ vector) < 1e-12
        assert relative(operator @ vector, DENSE[kind](made) @ vector) < 1e-12
    assert relative(replace(made, fused=True).gradient(theta), made.gradient(theta)) < 1e-12
    assert replace(made, fused=True).loss(theta) == pytest.approx(made.loss(theta), rel=1e-14)


@pytest.mark.parametrize("name", MODELS)
def test_the_calls_that_are_taken_over_are_counted(name: str):
    make, count = MODELS[name]
    assert num_fusible(problem(make)) == count


@pytest.mark.parametrize(("name", "bn", "kind"), crossed(["2d", "table", "nested"], ["recompute", "batch"], KINDS))
def test_batch_statistics_are_left_to_torch(name: str, bn: str, kind: str):
    options = {"bn_block": 5, "chunk_size": None} if bn == "batch" else {}
    made = problem(MODELS[name][0], bn=bn, **options)
    count = {"2d": 1, "table": 0, "nested": 2}[name] if bn == "batch" else MODELS[name][1]
    assert num_fusible(made) == count
    assert relative(fused(made, kind) @ vector_for(made), DENSE[kind](made) @ vector_for(made)) < 1e-12


@pytest.mark.parametrize("params", [("layers.0.*",), ("layers.1.*",), ("last.*",), ("*bias",)], ids=str)
def test_constants_may_be_among_what_is_folded(params: tuple[str, ...]):
    made = problem(lambda: block(2), params=params)
    for kind in KINDS:
        assert relative(fused(made, kind) @ vector_for(made), DENSE[kind](made) @ vector_for(made)) < 1e-12


@pytest.mark.slow
def test_a_resnet_of_torchvision_is_the_same():
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = unsettled(torchvision.models.resnet18(num_classes=4))
    made = Objective.of(model, inputs, torch.tensor([0, 3]), runtime=on_device("float64"))
    assert num_fusible(made) == 40
    off = fused(made).engine.removeprefix("fused double backward, verified against double backward to ")
    assert float(off) < 1e-12


@pytest.mark.cpu
@pytest.mark.parametrize(("name", "faster"), thinned(itertools.product([*NETS, *TEXT_NETS], [True, False])))
def test_matrix_products_may_go_by_onednn(monkeypatch: pytest.MonkeyPatch, name: str, faster: bool):
    if faster and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("a torch without this kernel")
    monkeypatch.setattr(gemm, "is_faster", lambda: faster)
    made = objective(name, dtype="float32", chunk_size=20)
    linear = {"mlp": 3, "conv": 1, "attention": 2, "gpt": 9, "lstm": 1}[name]
    assert num_fusible(made) == linear * faster + 3 * (name == "conv")
    for kind in ("hessian", "ggn"):
        product = fused(made, kind) @ vector_for(made).float()
        assert relative(product, exact(kind, name) @ vector_for(made)) < 2e-6


# Changed in place between a convolution and what is made of it.


@pytest.mark.parametrize("through", [False, True], ids=["itself", "through a view"])
def test_what_torch_refuses_is_refused(through: bool):
    """The inputs of a convolution are needed to differentiate it; the ones they were changed to would give another answer."""

    def changed(self: Steps, inputs: Tensor) -> Tensor:
        inputs = inputs * 1
        convolved = self.first(inputs)
        (inputs[:1] if through else inputs).add_(1)
        return self.norm(convolved)

    made = problem(lambda: steps(changed))
    for one in (made, replace(made, fused=True)):
        with pytest.raises(InputError, match="overwrites a tensor in place"):
            one.gradient(one.parameters())


# What it is for.


class Large(TorchDispatchMode):
    """Counts the operations whose answer is as large as a given number."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.count = least, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)]
        self.count += max(sizes, default=0) >= self.least
        return answer


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_behind_a_convolution_batchnorm_costs_a_product_nothing(kind: str):
    counts = []
    for norm in (nn.BatchNorm2d(4), nn.Identity()):
        layers = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), norm, nn.Tanh())
        made = problem(lambda layers=layers: Whole(layers), chunk_size=SAMPLES)
        operator, vector = fused(made, kind), vector_for(made)
        operator @ vector
        with Large(SAMPLES * 4 * 6 * 6) as large:
            operator @ vector
        counts.append(large.count)
    assert counts[0] == counts[1] > 5


# Nothing is left behind.


def test_outside_of_a_gradient_nothing_is_taken_over():
    made = problem(lambda: block(2))
    model, inputs = made.model, made.inputs
    with torch.no_grad(), Fusing() as fusing:
        answer = model(inputs)
    assert fusing.count == 0
    assert torch.equal(answer, model(inputs))
    with Fusing() as fusing:
        model(inputs)
    assert fusing.count == 2


def test_the_context_ends_where_the_model_does():
    def stopped(self: Steps, inputs: Tensor) -> Tensor:
        if len(inputs) == SAMPLES:
            raise KeyboardInterrupt
        return self.norm(self.first(inputs))

    made = replace(problem(lambda: steps(stopped)), fused=True)
    made.gradient(made.parameters())
    with pytest.raises(KeyboardInterrupt):
        replace(made, chunk_size=SAMPLES).gradient(made.parameters())
    assert _get_current_function_mode_stack() == []


@pytest.mark.parametrize(
    ("name", "kind"), thinned(itertools.product(["nested", "2d", "around", "changed through a view", "tied weights"], KINDS))
)
def test_all_that_was_made_goes_with_the_operator_at_once(monkeypatch: pytest.MonkeyPatch, name: str, kind: str):
    """Kept graphs are what memory is spent on: a cycle would hold them until the collector comes round, or for ever."""
    monkeypatch.setattr(kept.GraphSize, "of", lambda *_: kept.GraphSize(0, 1))
    made = problem(MODELS[name][0])
    vector = vector_for(made)
    fused(made, kind) @ vector  # What torch makes once and for all.
    gc.collect()
    gc.disable()
    try:
        with Storages() as storages:
            operator = fused(made, kind)
            product = operator @ vector
            held = storages.bytes(collect=False)
            assert held > 10 * product.nbytes
            del product, operator
        assert storages.bytes(collect=False) == 0
    finally:
        gc.enable()


def test_nothing_sticks_to_data_and_parameters():
    made = problem(lambda: block(2))
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    operator = fused(made)
    operator @ vector_for(made)
    for tensor in (made.inputs, made.targets, operator._theta, *made.model.parameters(), *made.model.buffers()):
        assert vars(tensor) == {}
    assert all(torch.equal(before[name], tensor) for name, tensor in made.model.state_dict().items())
    assert not any(module.training for module in made.model.modules())
