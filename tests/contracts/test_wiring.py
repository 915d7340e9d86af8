"""Every architecture says how it is wired: its hidden units are permuted at random, and its function stays as it was."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from sharpcli import plugins
from sharpcli.errors import InputError
from sharpcli.models.blocks.norm import KINDS
from sharpcli.models.wiring import hidden_units

FOLDER = "models/architectures"
SMALL = {"c2": 4, "c4": 4, "f1": 20, "f2": 20, "resnet18": 8, "resnet50": 4, "resnet152": 4, "wrn16-4": 8, "wrn28-10": 8}
TOKENS = ("gpt",)  # Architectures for tokens.
# Architectures whose units cannot be permuted, and why.
WITHOUT_WIRING = {("densenet121", "group"): "groups of its norms cut through the channels that its layers append"}


def options(name: str) -> dict[str, object]:
    known = inspect.signature(plugins.load(FOLDER, name).build).parameters
    if name in TOKENS:
        return {"width": 8, "heads": 2}
    return {"growth": 4} if "growth" in known else {"width": SMALL[name]} if name in SMALL else {}


def cases() -> list[tuple[str, str | None]]:
    found = []
    for name in plugins.names(FOLDER):
        has_norm = "norm" in inspect.signature(plugins.load(FOLDER, name).build).parameters
        found += [(name, norm) for norm in (KINDS if has_norm else (None,))]
    return found


def inputs_of(name: str) -> torch.Tensor:
    if name in TOKENS:
        return torch.randint(0, 3, (3, 7), generator=torch.Generator().manual_seed(0))
    return torch.randn(3, 1, 8, 8, dtype=torch.float64)


def build(name: str, norm: str | None) -> nn.Module:
    """Return a model in eval mode of which no two units are alike."""
    torch.manual_seed(0)
    keywords = options(name) | ({} if norm is None else {"norm": norm})
    shape = tuple(inputs_of(name).shape[1:])
    model = plugins.load(FOLDER, name).build(input_shape=shape, num_classes=3, **keywords).double()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim == 1:
                tensor.add_(0.5 * torch.rand_like(tensor))
    return model.eval()


def random_order(count: int, runs: Sequence[int]) -> torch.Tensor:
    """Draw an order of units in which runs, sizes rising, stay together."""
    if not runs:
        return torch.randperm(count)
    size = runs[-1]
    return torch.cat([size * place + random_order(size, runs[:-1]) for place in torch.randperm(count // size)])


@pytest.mark.parametrize(("name", "norm"), [case for case in cases() if case not in WITHOUT_WIRING])
@torch.no_grad()
def test_permuted_units_compute_the_same(name: str, norm: str | None) -> None:
    model = build(name, norm)
    inputs = inputs_of(name)
    before = model(inputs)
    tensors = {name: tensor.clone() for name, tensor in model.named_parameters()}
    groups = hidden_units(model)
    for units in groups:
        units.permute(random_order(units.count, sorted(units.runs)))
    torch.testing.assert_close(model(inputs), before, rtol=1e-8, atol=1e-8 * float(before.abs().max()))
    same = [name for name, tensor in model.named_parameters() if tensor.ndim > 1 and torch.equal(tensor, tensors[name])]
    assert same == []  # Each weight has hidden units on one axis at least.
    # One axis alone is no permutation of units: what was found above would be seen if it were wrong.
    groups[-1].axes[0].permute(torch.arange(groups[-1].count).flip(0))
    assert (model(inputs) - before).abs().max() > 1e-4 * before.abs().max()


@pytest.mark.parametrize(("name", "norm"), [case for case in cases() if case not in WITHOUT_WIRING and case[0] not in TOKENS])
def test_every_axis_of_hidden_units_is_declared(name: str, norm: str | None) -> None:
    """Every weight but the last has hidden units on its first axis, every one but the first on its second."""
    model = build(name, norm)
    axes = {(axis.tensor.data_ptr(), axis.axis) for units in hidden_units(model) for axis in units.axes}
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    assert all((weight.data_ptr(), 0) in axes for weight in weights[:-1])
    assert all((weight.data_ptr(), 1) in axes for weight in weights[1:])
    assert (weights[-1].data_ptr(), 0) not in axes
    assert (weights[0].data_ptr(), 1) not in axes


def test_the_axes_of_a_transformer() -> None:
    """One group runs through all shortcuts; in each block there are heads, channels of each head, and dense units."""
    model = plugins.load(FOLDER, "gpt").build(input_shape=(7,), num_classes=3, width=8, heads=2, tied=False)
    groups = hidden_units(model)
    names = {parameter.data_ptr(): name for name, parameter in model.named_parameters()}
    axes = {(names[axis.tensor.data_ptr()], axis.axis) for units in groups for axis in units.axes}
    both = [f"blocks.{n}.{name}" for n in (0, 1) for name in ("attention.qkv", "attention.proj", "dense.0", "dense.2")]
    first = [f"blocks.{n}.norm{m}" for n in (0, 1) for m in (1, 2)]
    wanted = {(f"{name}.{part}", 0) for name in (*both, *first, "norm") for part in ("weight", "bias")}
    assert axes == wanted | {(f"{name}.weight", 1) for name in (*both, "tokens", "positions", "head")}
    assert [units.count for units in groups] == [8, *2 * (2, 4, 4, 4, 4, 32)]


@pytest.mark.parametrize(("name", "norm"), WITHOUT_WIRING)
def test_what_has_no_wiring_is_refused(name: str, norm: str) -> None:
    with pytest.raises(InputError, match="cannot be permuted"):
        hidden_units(build(name, norm))
