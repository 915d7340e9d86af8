"""Where in a dictionary the weights are; files of real tools are in test_reading.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharpcli.checkpoints import _sets
from sharpcli.errors import InputError

STATE = {"a.weight": torch.ones(3, 2), "a.bias": torch.ones(3)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3, 2)}}, "param_groups": [{"lr": 0.1}]}


def keys(content: object) -> list[str]:
    return [one.key for one in _sets.find(content)]


def test_a_state_dict_is_the_only_set():
    assert keys(STATE) == [""]
    assert keys({**STATE, "a._extra_state": {"scale": 1}}) == [""]


def test_sets_are_found_three_dictionaries_deep_and_no_deeper():
    assert keys({"one": {"two": {"three": STATE}}}) == ["one/two/three"]
    assert keys({"one": {"two": {"three": {"four": STATE}}}}) == []


@pytest.mark.parametrize(
    "name", ["optimizer", "optim_state", "lr_scheduler", "scaler", "amp", "config", "criterion", "loss_fn"]
)
def test_what_stands_beside_weights_is_no_set(name: str):
    assert keys({"model": STATE, name: STATE}) == ["model"]


def test_tensors_without_an_axis_are_no_weights():
    assert keys({"model": STATE, "steps": {"count": torch.tensor(3)}}) == ["model"]


def test_weights_among_other_things_are_the_set_of_the_top():
    (one,) = _sets.find({**STATE, "epoch": 3})
    assert (one.key, one.left_out) == ("", ("epoch",))
    assert one.tensors.keys() == STATE.keys()


def test_a_list_of_averaged_weights_is_a_set_without_tensors():
    one, other = _sets.find({"model": STATE, "ema": {"shadow_params": [torch.ones(2)]}})
    assert (one.key, other.key, other.tensors) == ("model", "ema/shadow_params", {})
    with pytest.raises(InputError, match="a list without names"):
        _sets.choose(Path("x.pt"), [one, other], "shadow")


def test_tensors_and_losses_beside_the_chosen_set_are_told():
    content = {"model": STATE, "prior": torch.ones(2), "criterion": {"weight": torch.ones(3)}, "step": torch.tensor(1)}
    (one,) = _sets.find(content)
    assert _sets.beside(content, one) == ("prior", "criterion")


def test_an_optimizer_alone_is_known_as_one():
    assert _sets.only_an_optimizer(OPTIMIZER)
    assert _sets.only_an_optimizer({"optimizer": OPTIMIZER})
    assert not _sets.only_an_optimizer({"model": STATE})
    assert not _sets.only_an_optimizer({})


@pytest.mark.parametrize("key", [3, 2.5, ("a", 1), "\ud800"])
def test_keys_that_are_no_text_are_written_as_one(key: object):
    (one,) = _sets.find({key: torch.ones(2), "a.weight": torch.ones(2)})
    for name in one.tensors:
        name.encode()
