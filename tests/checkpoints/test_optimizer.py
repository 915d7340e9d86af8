"""The state of an optimizer in our files and in those of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpcli.checkpoints import OptimizerState, read, write
from sharpcli.checkpoints._optimizer import foreign_optimizer
from sharpcli.errors import InputError


def trained(kind: type[torch.optim.Optimizer] = torch.optim.Adam, **options: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    named = options.pop("named", False)
    optimizer = kind(model.named_parameters() if named else model.parameters(), lr=0.1, **options)
    for _ in range(3):
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        parts.keys() == other[name].keys() and all(torch.equal(part, other[name][key]) for key, part in parts.items())
        for name, parts in one.items()
    )


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.NAdam])
def test_our_file_gives_back_the_state(kind: type[torch.optim.Optimizer], tmp_path: Path):
    model, optimizer = trained(kind)
    state = OptimizerState.of(optimizer, model.named_parameters())
    write(tmp_path / "a.pt", model.state_dict(), {}, state)
    again = read(tmp_path / "a.pt").optimizer
    assert again.name == kind.__name__.lower()
    assert again.options["lr"] == 0.1
    assert same(again.tensors, state.tensors)
    assert set(again.tensors) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(again.tensors["0.bias"]["step"], torch.tensor(3.0))


def test_an_optimizer_that_remembers_nothing_has_its_options(tmp_path: Path):
    """Such as SGD without momentum, and any optimizer before its first update."""
    model = nn.Linear(2, 2)
    state = OptimizerState.of(torch.optim.SGD(model.parameters(), 0.3), model.named_parameters())
    write(tmp_path / "a.pt", model.state_dict(), {}, state)
    write(tmp_path / "b.pt", model.state_dict(), {})
    again = read(tmp_path / "a.pt").optimizer
    assert (again.name, again.options["lr"], again.tensors) == ("sgd", 0.3, {})
    assert read(tmp_path / "b.pt").optimizer is None


def test_a_state_of_another_form_is_refused(tmp_path: Path):
    for place, odd in enumerate([{}, {"name": "adam", "options": {}, "tensors": {"w": 3}}, 7]):
        path = tmp_path / f"{place}.pt"
        content = {"format": "sharpcli", "format_version": 3, "state_dict": {"w": torch.ones(2)}, "metadata": {}}
        torch.save({**content, "optimizer": odd}, path)
        with pytest.raises(InputError, match="optimizer"):
            read(path)


@pytest.mark.parametrize("key", ["optimizer", "optim", "optimizer_states"])
def test_the_numbered_parameters_of_torch(key: str, tmp_path: Path):
    model, optimizer = trained()
    kept = optimizer.state_dict()
    torch.save({"model": model.state_dict(), "epoch": 3, key: [kept] if key.endswith("s") else kept}, tmp_path / "a.pt")
    state = read(tmp_path / "a.pt").optimizer
    assert (state.name, state.options["betas"]) == ("adam", [0.9, 0.999])
    assert state.tensors == {}
    wanted = list(optimizer.state.values())
    assert [part["exp_avg_sq"].tolist() for part in state.numbered] == [part["exp_avg_sq"].tolist() for part in wanted]


def test_named_parameters_keep_their_names(tmp_path: Path):
    model, optimizer = trained(torch.optim.AdamW, named=True)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    state = read(tmp_path / "a.pt").optimizer
    assert state.name == "adamw"
    assert same(state.tensors, OptimizerState.of(optimizer, model.named_parameters()).tensors)


def test_groups_without_names_cannot_be_assigned():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam([{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = foreign_optimizer({"optimizer": optimizer.state_dict()})
    assert state.unnamed
    assert state.differing == ("lr",)
    assert "lr" not in state.options


def test_of_several_optimizers_none_is_taken():
    kept = trained()[1].state_dict()
    assert foreign_optimizer({"generator": kept, "discriminator": kept}) is None
    assert foreign_optimizer({"model": {"w": torch.ones(2)}}) is None
    assert foreign_optimizer({"optimizer": torch.optim.Adam(nn.Linear(1, 1).parameters()).state_dict()}) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"state": {0: 3}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"step": 10**400}}, "param_groups": [{"params": [0], "lr": 10**400, "betas": ["a", None]}]},
        {"state": {0: {}}, "param_groups": [{"params": [[0], {}]}]},
        {"state": {"a": {}}, "param_groups": [{"params": ["a"], "param_names": 3}]},
        {"state": {0: {}}, "param_groups": [{"params": [0], "param_names": ["a", "b"]}]},
        {"state": {0: {}}, "param_groups": [3]},
        {"state": [], "param_groups": {}},
    ],
)
def test_no_content_of_a_foreign_file_raises(odd: Any):
    state = foreign_optimizer({"optimizer": odd, "w.weight": torch.ones(2)})
    assert state is None or state.name == ""
