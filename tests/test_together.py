import math

import pytest
import torch
from torch import Tensor, nn

from sharpcli.objective import Objective
from sharpcli.runtime import generator
from sharpcli.together import evaluate_together, num_together
from tests.device import DEVICE, on_device

SAMPLES = 103


def _model(*, norm: bool = False, outputs: int = 4) -> nn.Module:
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(7)] if norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), *middle, nn.ReLU(), nn.Linear(7, outputs))


def _objective(model: nn.Module, loss: str, *, numbers: bool = False) -> Objective:
    random = generator(1)
    inputs = torch.randn(SAMPLES, 3, 4, generator=random)
    targets = torch.randn(SAMPLES, 4, generator=random) if numbers else torch.randint(0, 4, (SAMPLES,), generator=random)
    targets = targets.sigmoid() if loss == "bce" else targets
    return Objective.of(model, inputs, targets, loss=loss, runtime=on_device("float64"), chunk_size=20)


def _points(made: Objective, count: int) -> list[Tensor]:
    theta = made.parameters()
    return [
        theta + 0.3 * number * torch.randn(len(theta), generator=generator(2), dtype=theta.dtype).to(DEVICE)
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize(("loss", "numbers"), [("ce", False), ("ce:0.1", False), ("mse", False), ("mse", True), ("bce", True)])
@pytest.mark.parametrize("norm", [False, True])
def test_together_is_one_by_one(count: int, loss: str, numbers: bool, norm: bool):
    made = _objective(_model(norm=norm), loss, numbers=numbers)
    points = _points(made, count)
    buffers = [made.recompute_buffers(point) for point in points]
    for found, point, statistics in zip(evaluate_together(made, points, buffers), points, buffers, strict=True):
        alone = made.evaluate(point, statistics)
        assert found.loss == pytest.approx(alone.loss, rel=1e-12)
        assert found.loss_standard_error == pytest.approx(alone.loss_standard_error, rel=1e-9)
        assert (found.accuracy, found.num_samples) == (alone.accuracy, SAMPLES)


def test_one_that_is_not_finite_leaves_the_others_alone():
    made = _objective(_model(), "ce")
    points = _points(made, 3)
    points[1] = points[1] * 1e200
    found = evaluate_together(made, points, [{}] * 3)
    assert not math.isfinite(found[1].loss)
    assert [found[place].loss for place in (0, 2)] == pytest.approx([made.loss(points[place]) for place in (0, 2)])


def test_only_small_nets_of_known_layers_go_together():
    class Own(nn.Linear):
        """Might do anything in its forward pass."""

    assert num_together(_objective(_model(), "ce")) > 1
    assert num_together(_objective(nn.Sequential(nn.Flatten(), Own(12, 4)), "ce")) == 1
    assert num_together(_objective(nn.Sequential(nn.Flatten(), nn.Linear(12, 4000), nn.Linear(4000, 4)), "ce")) == 1
    convolution = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv2d(1, 2, 2), nn.Flatten(), nn.LazyLinear(4))
    convolution(torch.zeros(2, 3, 4))
    assert num_together(_objective(convolution, "ce")) == 1
