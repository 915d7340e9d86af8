"""The built-in models: published sizes, finite outputs, second derivatives, independence of samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli import plugins
from sharpcli.errors import InputError, SettingsError
from sharpcli.models.blocks.norm import norm_layer
from sharpcli.models.resolve import resolve
from tests.lanes import crossed, thinned

EVERY = plugins.names("models/architectures")
NAMES = [name for name in EVERY if name != "gpt"]  # Models for images; test_gpt.py has the other one.
SHAPES = [(1, 28, 28), (3, 32, 32)]
NORMED = [name for name in NAMES if name != "mlp"]
# What makes the large ones quick to try; test_published_nets.py counts them at their full size.
SMALL = {
    "c2": ["width=8"],
    "c4": ["width=8"],
    "densenet121": ["growth=4"],
    "resnet18": ["width=8"],
    "resnet50": ["width=4"],
    "resnet152": ["width=2"],
    "wrn16-4": ["width=8"],
    "wrn28-10": ["width=8"],
}


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def cifar_resnet_count(n: int, channels: int, num_classes: int, width: int = 16) -> int:
    """He et al. 2016, section 4.2: 6n + 2 layers, no bias in front of a norm, bare shortcuts."""
    w = width
    stem = 9 * channels * w + 2 * w
    stages = sum(9 * a * b + 2 * b + (2 * n - 1) * (9 * b * b + 2 * b) for a, b in [(w, w), (w, 2 * w), (2 * w, 4 * w)])
    return stem + stages + 4 * w * num_classes + num_classes


def test_every_architecture_is_listed() -> None:
    keskar = ["c1", "c2", "c3", "c4", "f1", "f2"]
    resnets = ["resnet152", "resnet18", "resnet20", "resnet44", "resnet50", "resnet8"]
    assert sorted([*keskar, *resnets, "convnet", "densenet121", "gpt", "mlp", "wrn16-4", "wrn28-10"]) == EVERY


def test_f1_has_the_published_size() -> None:
    assert parameter_count(resolve("f1", input_shape=(1, 28, 28), num_classes=10)) == 1_462_794


def test_c1_counts_by_hand() -> None:
    convolutions = (3 * 64 * 25 + 64) + (64 * 64 * 25 + 64) + 2 * 128
    dense = (64 * 8 * 8 * 384 + 384 + 768) + (384 * 192 + 192 + 384) + (192 * 10 + 10)
    model = resolve("c1", input_shape=(3, 32, 32), num_classes=10)
    assert parameter_count(model) == convolutions + dense == 1_757_834


@pytest.mark.parametrize(("name", "n", "millions"), [("resnet8", 1, 0.08), ("resnet20", 3, 0.27), ("resnet44", 7, 0.66)])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_cifar_resnets_have_the_published_size(name: str, n: int, millions: float, norm: str) -> None:
    model = resolve(name, input_shape=(3, 32, 32), num_classes=10, arguments=[f"norm={norm}"])
    assert parameter_count(model) == cifar_resnet_count(n, 3, 10)
    assert round(parameter_count(model) / 1e6, 2) == millions
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) + 1 == 6 * n + 2


def test_resnet18_counts_by_hand() -> None:
    widths = [(64, 64), (64, 128), (128, 256), (256, 512)]
    stages = sum(9 * a * b + 27 * b * b + 8 * b + (a * b + 2 * b if a != b else 0) for a, b in widths)
    model = resolve("resnet18", input_shape=(3, 32, 32), num_classes=10)
    assert parameter_count(model) == 9 * 3 * 64 + 128 + stages + 5130 == 11_173_962


def test_convnet_has_the_documented_size() -> None:
    assert parameter_count(resolve("convnet", input_shape=(1, 28, 28), num_classes=10)) == 11_074


@pytest.mark.parametrize(("name", "shape"), crossed(NAMES, SHAPES))
def test_logits_are_finite_and_differentiable_twice(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = resolve(name, input_shape=shape, num_classes=7, arguments=SMALL.get(name, [])).eval()
    inputs, targets = torch.randn(3, *shape), torch.tensor([0, 3, 6])
    logits = model(inputs)
    assert logits.shape == (3, 7)
    assert torch.isfinite(logits).all()
    product = hessian_vector_product(functional.cross_entropy(logits, targets), list(model.parameters()))
    assert torch.isfinite(product).all()
    assert product.norm() > 0


@pytest.mark.parametrize(("name", "norm"), crossed(NORMED, ["batch", "group", "none"]))
def test_each_norm_lets_the_gradient_reach_every_parameter(name: str, norm: str) -> None:
    torch.manual_seed(0)
    options = [*SMALL.get(name, []), f"norm={norm}"]
    # In eval mode, since in training mode BatchNorm takes a bias in front of it away.
    model = resolve(name, input_shape=(1, 9, 9), num_classes=3, arguments=options).eval()
    functional.cross_entropy(model(torch.randn(4, 1, 9, 9)), torch.tensor([0, 1, 2, 0])).backward()
    slopes = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert [key for key, slope in slopes.items() if slope is None or not slope.abs().max() > 0] == []
    kinds = {"batch": nn.BatchNorm1d | nn.BatchNorm2d, "group": nn.GroupNorm, "none": nn.Identity}
    assert any(isinstance(module, kinds[norm]) for module in model.modules())
    if norm == "none":
        assert all(module.bias is not None for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", [name for name in NORMED if name != "convnet"])
def test_nets_of_papers_have_batch_norm_unless_asked(name: str) -> None:
    kinds = {
        type(module)
        for module in resolve(name, input_shape=(3, 16, 16), num_classes=3, arguments=SMALL.get(name, [])).modules()
    }
    assert kinds & {nn.BatchNorm1d, nn.BatchNorm2d}
    assert nn.GroupNorm not in kinds


def hessian_vector_product(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    slope = sum(gradient.sum() for gradient in gradients)
    products = torch.autograd.grad(slope, parameters)
    return torch.cat([product.flatten() for product in products])


# torch.func.jvp compiles its rules with torch.jit.script, which torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("name", thinned(NAMES, 4))
def test_second_order_transforms_agree_with_double_backward(name: str) -> None:
    torch.manual_seed(0)
    group = {"resnet18": ["width=2"], "f1": ["width=16"], "resnet44": ["width=2"], "c1": []}
    batch = {"f2": ["width=4"], **SMALL}
    options = [*group[name], "norm=group"] if name in group else batch.get(name, [])
    model = resolve(name, input_shape=(1, 12, 12), num_classes=3, arguments=options).double().eval()
    inputs, targets = torch.randn(2, 1, 12, 12, dtype=torch.float64), torch.tensor([0, 2])
    parameters = {key: value.detach() for key, value in model.named_parameters()}

    def loss(theta: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(torch.func.functional_call(model, theta, (inputs,)), targets)

    ones = {key: torch.ones_like(value) for key, value in parameters.items()}
    _, forward_over_reverse = torch.func.jvp(torch.func.grad(loss), (parameters,), (ones,))
    expected = hessian_vector_product(functional.cross_entropy(model(inputs), targets), list(model.parameters()))
    actual = torch.cat([forward_over_reverse[key].flatten() for key in parameters])
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize("name", thinned(NORMED, 4))
def test_group_norm_treats_each_sample_alone(name: str) -> None:
    torch.manual_seed(0)
    dropout = ["dropout=0"] if name in ("c1", "c2", "c3", "c4") else []
    options = ["norm=group", *dropout, *SMALL.get(name, [])]
    # In float64: other batch sizes round otherwise, and 152 layers let float32 see it.
    model = resolve(name, input_shape=(3, 32, 32), num_classes=5, arguments=options).double().train()
    inputs = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    crowded = torch.cat([inputs[:1], 100 * inputs[1:]])
    torch.testing.assert_close(model(crowded)[:1], model(inputs[:1]), rtol=1e-8, atol=1e-10)


def test_batch_norm_does_not() -> None:
    torch.manual_seed(0)
    model = resolve("resnet8", input_shape=(3, 32, 32), num_classes=5, arguments=["norm=batch"]).train()
    inputs = torch.randn(4, 3, 32, 32)
    crowded = torch.cat([inputs[:1], 100 * inputs[1:]])
    assert (model(crowded)[:1] - model(inputs)[:1]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["resnet44", "resnet8", "convnet", *SMALL])
def test_without_norms_activations_keep_their_size(name: str) -> None:
    torch.manual_seed(0)
    model = resolve(name, input_shape=(3, 32, 32), num_classes=10, arguments=["norm=none", *SMALL.get(name, [])])
    assert not [module for module in model.modules() if isinstance(module, nn.GroupNorm | nn.BatchNorm2d)]
    assert model(torch.randn(8, 3, 32, 32)).std() < 10


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 6), (8, 8), (12, 6), (13, 1), (64, 8)])
def test_groups_are_the_largest_divisor_up_to_eight(channels: int, groups: int) -> None:
    layer = norm_layer("group", channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups


def test_mlp_sizes_and_activations() -> None:
    linear = resolve("mlp", input_shape=(5,), num_classes=3, arguments=["hidden=()"])
    assert parameter_count(linear) == 18
    one = resolve("mlp", input_shape=(2, 3), num_classes=3, arguments=["hidden=4", "activation=tanh"])
    assert parameter_count(one) == 28 + 15
    assert any(isinstance(module, nn.Tanh) for module in one.modules())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("mlp", "activation=swish"),
        ("mlp", "hidden=0"),
        ("mlp", "hidden=big"),
        ("convnet", "width=0"),
        ("convnet", "width=1.5"),
        ("convnet", "width=True"),
        ("f1", "norm=layer"),
        ("c1", "dropout=1"),
        ("c2", "dropout=-0.1"),
        ("c4", "width=0"),
        ("resnet20", "width=-3"),
        ("resnet44", "shortcut=none"),
        ("resnet50", "shortcut=projection"),
        ("wrn16-4", "activation=relu"),
        ("wrn16-4", "width=0"),
        ("wrn28-10", "width=0"),
        ("densenet121", "growth=0"),
        ("densenet121", "norm=layer"),
    ],
)
def test_bad_options_are_settings_errors(name: str, option: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(name, input_shape=(1, 28, 28), num_classes=10, arguments=[option])
    assert caught.value.hint


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mlp", "f1", "f2")])
def test_image_models_refuse_flat_inputs(name: str) -> None:
    with pytest.raises(InputError, match="needs images"):
        resolve(name, input_shape=(784,), num_classes=10)
