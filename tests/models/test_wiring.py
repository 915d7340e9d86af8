"""Wiring of modules that are not built in: a user's own block, models of torchvision, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from sharpcli.errors import InputError
from sharpcli.models.wiring import Layout, Wiring, hidden_units


class Residual(nn.Module):
    """What a user may write: two layers whose outputs are added to the inputs, in a module that is no sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.second(torch.tanh(self.first(inputs)))


class WiredResidual(Residual):
    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        return wiring.into(self.second, wiring.through(self.first, inputs), outputs=inputs)


class BadlyWired(Residual):
    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        return wiring.through(self.third, inputs)


def around(block: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), block, nn.Linear(5, 3)).double()


@torch.no_grad()
def assert_permuting_is_no_other_function(model: nn.Module, inputs: Tensor) -> None:
    before, weights = model(inputs), [parameter.clone() for parameter in model.parameters() if parameter.ndim > 1]
    for units in hidden_units(model):
        units.permute(torch.randperm(units.count))
    torch.testing.assert_close(model(inputs), before)
    after = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    assert not any(torch.equal(one, other) for one, other in zip(weights, after, strict=True))


def test_a_users_block_declares_its_wiring() -> None:
    torch.manual_seed(0)
    model = around(WiredResidual())
    assert [units.count for units in hidden_units(model)] == [5, 7]
    assert_permuting_is_no_other_function(model, torch.randn(6, 4, dtype=torch.float64))


def test_a_block_that_does_not_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="across a Residual") as caught:
        hidden_units(around(Residual()))
    assert "wire_units" in caught.value.hint


def test_a_method_that_fails_is_named() -> None:
    with pytest.raises(InputError, match="wire_units of BadlyWired failed: .*third"):
        hidden_units(around(BadlyWired()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_nets_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=3).double().eval()
    assert_permuting_is_no_other_function(model, torch.randn(2, 3, 64, 64, dtype=torch.float64))


@pytest.mark.parametrize("name", ["vgg11_bn", "alexnet"])
def test_models_of_torchvision_with_features_and_classifier(name: str) -> None:
    """Their own layers are too large for a test; small ones are put in their place."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    model.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    pixels = model.avgpool(torch.zeros(1, 6, 8, 8)).numel()
    model.classifier = nn.Sequential(nn.Linear(pixels, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 3))
    assert_permuting_is_no_other_function(model.double().eval(), torch.randn(2, 3, 18, 18, dtype=torch.float64))


def test_a_subclass_of_a_torchvision_model_is_not_taken_for_it() -> None:
    class Changed(torchvision.models.ResNet):
        pass

    model = Changed(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3)
    with pytest.raises(InputError, match="across a Changed"):
        hidden_units(model)
