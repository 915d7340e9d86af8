"""Weights in memory, their hash, and the file that they are written to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sharpcli import checkpoints
from sharpcli.checkpoints import Checkpoint, state_sha256

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


def test_a_checkpoint_is_what_torch_saves_of_plain_tensors(tmp_path: Path):
    checkpoints.write(tmp_path / "x.pt", STATE, {"step": 3})
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    assert (content["format"], content["format_version"], content["metadata"]) == ("sharpcli", 3, {"step": 3})
    assert list(content["state_dict"]) == ["a", "b"]
    assert all(torch.equal(content["state_dict"][name], part) for name, part in STATE.items())


def test_equal_contents_are_equal_bytes_whatever_holds_them(tmp_path: Path):
    """Parameters, parts of a larger tensor, and other strides."""
    others = {"a": torch.nn.Parameter(torch.arange(6.0).view(3, 2).T.reshape(2, 3)), "b": torch.tensor([0, 1, 2])[1:]}
    others["a"].data = torch.arange(12.0).view(2, 2, 3)[0]
    checkpoints.write(tmp_path / "x.pt", STATE, {})
    checkpoints.write(tmp_path / "y.pt", others, {})
    assert (tmp_path / "x.pt").read_bytes() == (tmp_path / "y.pt").read_bytes()


def test_a_part_of_a_large_tensor_is_written_alone(tmp_path: Path):
    checkpoints.write(tmp_path / "x.pt", {"a": torch.zeros(1_000_000)[:3]}, {})
    assert (tmp_path / "x.pt").stat().st_size < 10_000


CHANGES: dict[str, dict[str, Tensor]] = {
    "a value": {"a": STATE["a"] + 1},
    "a shape": {"a": STATE["a"].view(3, 2)},
    "a type": {"a": STATE["a"].double()},
    "a tensor more": {"c": torch.zeros(0)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_tells_names_shapes_types_and_values_apart(change: str):
    assert state_sha256({**STATE, **CHANGES[change]}) != state_sha256(STATE)
    renamed = {"a": STATE["a"], "c": STATE["b"]}
    assert state_sha256(renamed) != state_sha256(STATE)


def test_the_hash_does_not_depend_on_order_or_strides():
    turned = {"b": STATE["b"], "a": STATE["a"].T.contiguous().T}
    assert state_sha256(turned) == state_sha256(STATE) == Checkpoint(Path("x.pt"), STATE).sha256()


def test_the_address_names_the_set_only_where_there_are_several():
    assert Checkpoint(Path("x.pt"), STATE, weights="ema").address == "x.pt"
    assert Checkpoint(Path("x.pt"), STATE, weights="ema", chosen=True).address == "x.pt::ema"
