import copy

import pytest
import torch
from torch import nn

from sharpcli.batchnorm import block_sizes
from sharpcli.losses import LOSSES
from sharpcli.training.gradient import Block, Plain, clip, trained
from sharpcli.training.gradient import mean_gradient as mean_of_blocks
from tests.nets import NUM_SAMPLES, images, made_model, objective, tanh_mlp, texts


def mean_gradient(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, *, chunk_size: int) -> float:
    """Put the gradient of the mean cross-entropy into `.grad`, in chunks."""
    loss = LOSSES["ce"]
    sizes = block_sizes(len(inputs), chunk_size)
    parts = zip(inputs.split(sizes), targets.split(sizes), strict=True)
    divisor = max(loss.count(targets), 1)
    blocks = (Block(some, wanted, loss.count(wanted), divisor) for some, wanted in parts)
    return mean_of_blocks(Plain(model, loss), blocks, trained(model))


def _gradient(model: nn.Module, chunk: int, dtype: str) -> torch.Tensor:
    kind = getattr(torch, dtype)
    model = copy.deepcopy(model).cpu().to(kind)
    inputs, targets = images()
    loss = mean_gradient(model, inputs.to(kind), targets, chunk_size=chunk)
    assert loss == pytest.approx(float(LOSSES["ce"].terms(model(inputs.to(kind)), targets).mean().detach()), rel=1e-6)
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])


@pytest.mark.parametrize(("dtype", "accuracy"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_full_batch_gradient_does_not_depend_on_the_chunk_size(chunk: int, dtype: str, accuracy: float):
    torch.manual_seed(0)
    model = tanh_mlp()
    whole = _gradient(model, NUM_SAMPLES, dtype)
    assert float((_gradient(model, chunk, dtype) - whole).norm() / whole.norm()) < accuracy


def test_it_is_the_gradient_of_the_objective():
    made = objective("mlp")
    found = _gradient(made.model, 13, "float64")
    torch.testing.assert_close(found, made.gradient(made.parameters()).cpu(), rtol=1e-12, atol=1e-14)


def test_the_default_model_and_data_in_chunks_of_one_sixty_four_and_all():
    """On 300 of the real images; the default net has GroupNorm, so samples do not see each other."""
    from sharpcli.datasets.resolve import resolve as resolve_data
    from sharpcli.models.resolve import resolve as resolve_model

    data = resolve_data("fashion-mini", root="")
    torch.manual_seed(0)
    model = resolve_model("convnet", input_shape=data.input_shape, num_classes=data.num_classes)
    gradients = []
    for chunk in (1, 64, 300):
        inputs, targets = data.train.inputs[:300], data.train.targets[:300]
        mean_gradient(model, inputs, targets, chunk_size=chunk)
        gradients.append(torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()]))
    for gradient in gradients[:2]:
        assert float((gradient - gradients[2]).norm() / gradients[2].norm()) < 1e-6


def test_batch_norm_sees_each_chunk_by_itself():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4)).double()
    whole, ghost = _gradient_of(model, NUM_SAMPLES), _gradient_of(model, 20)
    assert float((whole - ghost).norm() / whole.norm()) > 1e-3


def _gradient_of(model: nn.Module, chunk: int) -> torch.Tensor:
    inputs, targets = images()
    mean_gradient(model, inputs, targets, chunk_size=chunk)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_clip_shortens_only_what_is_longer_and_tells_the_length_before():
    model = nn.Linear(3, 1, bias=False)
    for largest, expected in ((1.0, 1.0), (10.0, 5.0)):
        model.weight.grad = torch.tensor([[3.0, 4.0, 0.0]])
        assert clip(trained(model), largest) == pytest.approx(5)
        assert float(model.weight.grad.norm()) == pytest.approx(expected, rel=1e-6)


def test_frozen_and_unused_parameters_are_left_alone():
    model = nn.ModuleDict({"used": nn.Linear(64, 4), "unused": nn.Linear(2, 2), "frozen": nn.Linear(4, 4)})
    model["frozen"].requires_grad_(False)
    model.forward = lambda inputs: model["frozen"](model["used"](inputs.flatten(1)))
    inputs, targets = images()
    mean_gradient(model, inputs.float(), targets, chunk_size=50)
    assert model["frozen"].weight.grad is None
    assert float(model["unused"].weight.grad.abs().max()) == 0


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_mean_is_over_the_tokens_that_count(chunk: int):
    made, model = objective("gpt"), made_model("gpt")
    loss = mean_gradient(model, *texts(), chunk_size=chunk)
    wanted, gradient = made.loss_and_gradient(made.parameters())
    assert loss == pytest.approx(wanted, rel=1e-12)
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(found, gradient.cpu(), rtol=1e-10, atol=1e-12)


def test_a_batch_in_which_all_is_ignored_has_no_gradient():
    model = made_model("gpt")
    inputs, targets = texts()
    ignored = torch.full_like(targets, -100)
    loss = mean_gradient(model, inputs, ignored, chunk_size=7)
    assert loss == 0
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in model.parameters())
