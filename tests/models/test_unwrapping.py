"""A builder may return a model in what compilation and data parallelism wrap around it; what is inside is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sharpcli.models.resolve import resolve
from sharpcli.models.user_models import build_from_code, unwrapped


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embedding(tokens)).mean(1))


def in_parts(model: Tied) -> Tied:
    model.body[0] = torch.compile(model.body[0])
    model.body = nn.DataParallel(torch.compile(model.body))
    return model


def in_place(model: Tied) -> Tied:
    model.compile()
    model.head.compile()
    return model


WRAPPED: dict[str, Callable[[Tied], nn.Module]] = {
    "nothing": lambda model: model,
    "compiled": torch.compile,
    "parallel": nn.DataParallel,
    "parallel, compiled": lambda model: torch.compile(nn.DataParallel(model)),
    "compiled, parallel": lambda model: nn.DataParallel(torch.compile(model)),
    "in parts": in_parts,
    "in place": in_place,
}


@pytest.mark.cpu  # DataParallel moves a model to the GPU.
@pytest.mark.parametrize("name", WRAPPED)
def test_the_module_inside_is_used(name: str) -> None:
    model = Tied()
    names, tokens = list(model.state_dict()), torch.randint(7, (3, 5))
    expected = model(tokens)
    found = unwrapped(WRAPPED[name](model))
    assert found is model
    assert list(found.state_dict()) == names
    assert {type(part).__name__ for part in found.modules()} == {"Tied", "Embedding", "Linear", "Sequential", "Tanh"}
    assert all(part._compiled_call_impl is None for part in found.modules())
    assert torch.equal(found(tokens), expected)
    assert found.head.weight is found.embedding.weight


def test_a_compiled_part_that_is_there_twice() -> None:
    part = torch.compile(nn.Linear(4, 4))
    model = nn.ModuleDict({"a": part, "b": part, "c": nn.Sequential(part, nn.Tanh())})
    found = unwrapped(model)
    assert type(found["a"]) is nn.Linear
    assert found["a"] is found["b"] is found["c"][0]
    assert list(found.state_dict()) == [f"{name}.{part}" for name in ("a", "b", "c.0") for part in ("weight", "bias")]


def test_a_process_group_of_one(tmp_path: Path) -> None:
    """DistributedDataParallel in earnest: it refuses to be made without a process group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = Tied()
        assert unwrapped(nn.parallel.DistributedDataParallel(model)) is model
    finally:
        torch.distributed.destroy_process_group()


def test_an_average_is_left_as_it_is() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(Tied())
    assert unwrapped(averaged) is averaged


@pytest.mark.parametrize("wrapper", ["torch.compile", "nn.DataParallel"])
def test_builders_that_wrap(wrapper: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"import torch\nfrom torch import nn\ndef make(): return {wrapper}(nn.Linear(5, 3))\n")
    model = resolve(f"{tmp_path / 'net.py'}:make", input_shape=(5,), num_classes=3)
    assert type(model) is nn.Linear


def test_what_is_not_known_is_not_passed_on(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef make(num_classes=3, **_): return nn.Linear(5, num_classes)\n")
    spec = f"{tmp_path / 'net.py'}:make"
    assert build_from_code(spec, input_shape=None, num_classes=None, options={}).out_features == 3
    assert build_from_code(spec, input_shape=None, num_classes=4, options={}).out_features == 4
