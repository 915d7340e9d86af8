"""Names in a file against names in a model, without a model; with models they are in test_fitting.py."""

from __future__ import annotations

import pytest

from sharpcli.checkpoints._prefixes import aligned, is_stray, renamings

MODEL = ("conv.weight", "head.weight", "head.bias")
MODULES = ("", "conv", "head")


def renamed(names: list[str]) -> list[set[str]]:
    return [set(way.values()) for way in renamings(names, MODEL, MODULES)]


def test_prefixes_as_they_are_come_first():
    assert next(iter(renamings(MODEL, MODEL, MODULES))) == {name: name for name in MODEL}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "student.", "a.b.c."])
def test_what_is_put_in_front_of_all_names_comes_off(prefix: str):
    assert set(MODEL) in renamed([f"{prefix}{name}" for name in MODEL])


def test_wrappers_within_names_come_out():
    assert set(MODEL) in renamed(["conv._orig_mod.weight", "head.module.weight", "head.module.bias"])


def test_a_prefix_of_some_names_only_stays():
    assert set(MODEL) not in renamed(["ema.conv.weight", "head.weight", "head.bias"])


def test_no_two_tensors_get_one_name():
    names = ["module.conv.weight", "conv.weight", "head.weight", "head.bias"]
    for way in renamings(names, MODEL, MODULES):
        assert len(set(way.values())) == len(names)


@pytest.mark.parametrize("name", ["n_averaged", "criterion.weight", "net.loss_fn.weight", "a._extra_state", "layer1.total_ops"])
def test_strays_are_known_by_name(name: str):
    assert is_stray(name)


@pytest.mark.parametrize("name", ["critic.weight", "lossy.weight", "criterion", "head.weight", "averaged", "total_operations"])
def test_a_name_that_is_only_alike_is_no_stray(name: str):
    assert not is_stray(name)


def test_prefixes_of_two_files_are_the_same_but_for_wrappers():
    assert aligned([f"module.{name}" for name in MODEL], MODEL) == {f"module.{name}": name for name in MODEL}
    assert aligned([*MODEL, "more"], MODEL) == {name: name for name in [*MODEL, "more"]}
