"""Weight matching: a network whose units were shuffled is recovered exactly, and nothing else is touched."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import sharpcli
from sharpcli.analyses import _alignment
from sharpcli.analyses._alignment import align
from sharpcli.errors import InputError


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


def convolutional() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(first, nn.Flatten(), nn.Linear(80, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))


def trained(build) -> nn.Module:
    torch.manual_seed(0)
    model = build().double()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
    return model.eval()


@pytest.mark.parametrize("build", [dense, convolutional])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_units_are_put_back(build, seed: int):
    model = trained(build)
    shuffled = copy.deepcopy(model)
    links = _alignment._chain(shuffled)
    random = torch.Generator().manual_seed(seed)
    for place, link in enumerate(links[:-1]):
        _alignment._permute(links, place, torch.randperm(link.units, generator=random))
    images = torch.randn(8, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(shuffled(images), model(images))  # A permutation is no other function.
    assert not torch.equal(links[0].weight, _alignment._chain(model)[0].weight)
    before = {name: tensor.clone() for name, tensor in shuffled.state_dict().items()}
    found, share = align(model, shuffled, seed=seed)
    assert share > 0.5
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert all(torch.equal(before[name], tensor) for name, tensor in shuffled.state_dict().items())
    assert align(model, model, seed=seed)[1] == 0


def test_what_is_no_chain_is_refused():
    for build in (
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(288, 3)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(144, 3)),
    ):
        with pytest.raises(InputError, match="permute"):
            align(build(), build(), seed=0)


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
