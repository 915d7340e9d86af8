"""Weight matching: a network whose units were shuffled is recovered exactly, and nothing else is touched."""

from __future__ import annotations

import copy
import itertools
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

import sharpcli
from sharpcli import plugins
from sharpcli.analyses.interpolate.alignment import align, matched
from sharpcli.errors import InputError
from sharpcli.models.wiring import hidden_units
from tests.lanes import slow


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


def convolutional() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(first, nn.Flatten(), nn.Linear(80, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))


def built_in(name: str, **arguments: object) -> nn.Module:
    return plugins.load("models/architectures", name).build(input_shape=(1, 8, 8), num_classes=3, **arguments)


def distinct(build) -> nn.Module:
    """Return a model of which no two units are alike."""
    torch.manual_seed(0)
    model = build().double()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 1:
            tensor.data.add_(0.5 * torch.rand_like(tensor))
    return model.eval()


BUILT_IN = [
    ("mlp", {}), ("f1", {"width": 20, "norm": "group"}), ("convnet", {}), ("c1", {}), ("c2", {"width": 4}),
    ("resnet8", {"width": 8}), ("resnet8", {"width": 8, "norm": "none"}), ("resnet8", {"width": 8, "norm": "group"}),
    ("resnet18", {"width": 8, "norm": "group"}), ("resnet18", {"width": 8, "shortcut": "padded"}), ("resnet50", {"width": 4}),
    ("wrn16-4", {"width": 8, "norm": "group"}), ("wrn28-10", {"width": 8}), ("densenet121", {"growth": 4}),
]  # fmt: skip
BUILDS = [dense, convolutional, *(partial(built_in, name, **arguments) for name, arguments in BUILT_IN)]
NAMES = ["dense", "convolutional", *(" ".join([name, *map(str, arguments.values())]) for name, arguments in BUILT_IN)]


@pytest.mark.parametrize(
    "build", [slow(one) if "densenet" in name else one for one, name in zip(BUILDS, NAMES, strict=True)], ids=NAMES
)
def test_shuffled_units_are_put_back(build):
    model = distinct(build)
    shuffled = copy.deepcopy(model)
    random = numpy.random.default_rng(0)
    for units in hidden_units(shuffled):
        _, order = matched(random.normal(size=(units.count, units.count)), sorted(units.runs))
        units.permute(torch.from_numpy(order))
    images = torch.randn(8, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(shuffled(images), model(images))  # A permutation is no other function.
    before = {name: tensor.clone() for name, tensor in shuffled.state_dict().items()}
    found, share = align(model, shuffled, seed=0)
    assert share > 0.5
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert all(torch.equal(before[name], tensor) for name, tensor in shuffled.state_dict().items())
    assert align(model, model, seed=0)[1] == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("runs", [(), (2,), (4,), (2, 4), (3,)])
def test_runs_stay_together_and_the_best_order_is_found(runs: tuple[int, ...], seed: int):
    """Against every permutation of six or eight that keeps the runs together."""
    size = 6 if runs in ((), (3,)) else 8
    gain = numpy.random.default_rng(seed).normal(size=(size, size))

    def keeps(order: tuple[int, ...]) -> bool:
        return all(
            len({place // run for place in order[start : start + run]}) == 1 for run in runs for start in range(0, size, run)
        )

    best = max(gain[range(size), order].sum() for order in itertools.permutations(range(size)) if keeps(order))
    total, order = matched(gain, runs)
    assert keeps(tuple(order))
    assert total == pytest.approx(best)
    assert gain[range(size), order].sum() == pytest.approx(best)


def test_statistics_move_with_their_units_and_do_not_decide_which_match():
    """They change with the scale of what is before them, which the next layer takes back."""
    first, second = distinct(convolutional), distinct(convolutional)
    with torch.no_grad():
        for tensor in second.parameters():
            tensor.add_(torch.randn_like(tensor))
    other = copy.deepcopy(second)
    for module in other.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 1000)
            module.running_var.mul_(1000 * torch.rand_like(module.running_var))
    ours, theirs = (align(first, model, seed=0)[0] for model in (second, other))
    for (name, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_what_cannot_be_permuted_is_refused():
    for build in (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(144, 3)),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(144, 3)),
        lambda: built_in("densenet121", growth=4, norm="group"),
    ):
        with pytest.raises(InputError, match="permute"):
            align(build(), build(), seed=0)


@pytest.mark.slow
def test_alignment_lowers_the_barrier_between_two_seeds(data_file: Path, tmp_path: Path):
    made = sharpcli.train(
        model="mlp", model_arg=("hidden=16",), data=f"npz:{data_file}", steps=300, lr=0.2, sweep="seed=0,1", out=str(tmp_path)
    )
    ends = [row.checkpoint for row in made.rows]
    plain = sharpcli.interpolate(*ends, range="0:1", split="train")
    aligned = sharpcli.interpolate(*ends, range="0:1", split="train", align=True)
    assert plain.aligned_share is None
    assert aligned.aligned_share > 0.5
    assert aligned.distance < plain.distance
    assert aligned.curves[0].loss[0] == plain.curves[0].loss[0]
    assert aligned.curves[0].loss[-1] == pytest.approx(plain.curves[0].loss[-1], rel=1e-6)
    assert aligned.barrier <= plain.barrier
