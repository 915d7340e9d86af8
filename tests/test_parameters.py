import pytest
import torch
from torch import nn

from sharpcli.errors import SettingsError
from sharpcli.parameters import ParameterSpace, left_out
from tests.nets import LanguageModel


class Nested(nn.Module):
    """Owns a parameter before, and one after, its inner modules."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.body = nn.Sequential(nn.Linear(3, 2), nn.MultiheadAttention(2, 1))
        self.shift = nn.Parameter(torch.zeros(2))


def test_parameters_by_layer():
    space = ParameterSpace.of(Nested())
    assert space.groups() == {
        "(model)": ["scale", "shift"],
        "body.0": ["body.0.weight", "body.0.bias"],
        "body.1": ["body.1.in_proj_weight", "body.1.in_proj_bias"],
        "body.1.out_proj": ["body.1.out_proj.weight", "body.1.out_proj.bias"],
    }
    vector = torch.arange(float(space.dimension))
    parts = space.split(vector)
    for layer, names in space.groups().items():
        assert torch.equal(vector[space.layer_slices()[layer]], torch.cat([parts[name].flatten() for name in names]))
    assert sum(len(vector[part]) for part in space.layer_slices().values()) == space.dimension


def test_globs_select_in_the_order_of_the_model():
    space = ParameterSpace.of(Nested())
    assert space.select(["*.bias", "scale"]).names == ("scale", "body.0.bias", "body.1.out_proj.bias")
    chosen = space.select(["body.1.*"])
    assert chosen.shapes == (torch.Size([6, 2]), torch.Size([6]), torch.Size([2, 2]), torch.Size([2]))
    assert list(chosen.groups()) == ["body.1", "body.1.out_proj"]
    assert space.select(["*"]) == space


def test_a_glob_without_a_match_names_the_closest():
    space = ParameterSpace.of(Nested())
    with pytest.raises(SettingsError, match=r"'body\.0\.wieght'") as caught:
        space.select(["scale", "body.0.wieght"])
    assert "closest names are body.0.weight" in caught.value.hint
    with pytest.raises(SettingsError):
        space.select(["SCALE"])


def test_what_a_space_leaves_out_has_a_reason():
    model = LanguageModel()
    model.positions.requires_grad_(False)
    space = ParameterSpace.of(model).select(["tokens.*", "blocks.*"])
    assert left_out(model, space) == {
        "positions.weight": "frozen",
        "norm.weight": "not selected",
        "norm.bias": "not selected",
        "head.weight": "tied to tokens.weight",
    }
