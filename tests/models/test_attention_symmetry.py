"""Matrices in the heads of attention change the weights, and not the function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from sharpcli.models.architectures.gpt import build
from sharpcli.models.attention_symmetry import transform_heads
from sharpcli.modules import private_copy
from tests.models.test_attention import NETS, Fused

FACTOR = 3.0


@pytest.mark.parametrize("name", NETS)
def test_the_function_stays(name: str):
    model = private_copy(NETS[name][0]).double()
    inputs, before = torch.randn(4, 5, 6, dtype=torch.float64), {key: part.clone() for key, part in model.state_dict().items()}
    wanted = model(inputs)
    found = transform_heads(model, FACTOR, seed=1)
    assert found == (1, 2, 0 if name == "fused" else 1)  # The output layer of "fused" has no usual name.
    torch.testing.assert_close(model(inputs), wanted, rtol=0, atol=1e-10)
    moved = [key for key, part in model.state_dict().items() if not torch.equal(part, before[key])]
    assert len(moved) >= (1 if name == "torch, no bias" else 2)


def test_the_singular_values_are_those_that_were_asked_for():
    """The queries of a head are A times those of before; A has singular values from 1/factor to factor."""
    model = private_copy(NETS["fused"][0]).double()
    before = model.qkv.weight[:3].detach().clone()
    transform_heads(model, FACTOR, seed=1)
    turned = model.qkv.weight[:3].detach() @ torch.linalg.pinv(before)
    torch.testing.assert_close(torch.linalg.svdvals(turned), torch.tensor([3.0, 1.0, 1 / 3], dtype=torch.float64))


def test_the_gpt_of_the_package_has_all_of_it():
    model = build(input_shape=(12,), num_classes=9, layers=2, width=8, heads=2).double()
    tokens = torch.randint(0, 9, (3, 12))
    wanted = model(tokens)
    assert transform_heads(model, FACTOR, seed=0) == (2, 4, 2)
    torch.testing.assert_close(model(tokens), wanted, rtol=0, atol=1e-10)


def test_another_order_of_heads_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharpcli: Callable[..., Any]):
    torch.manual_seed(0)
    torch.save(Fused(interleaved=True).state_dict(), tmp_path / "net.pt")
    numpy.savez(tmp_path / "d.npz", x_train=numpy.random.default_rng(0).normal(size=(12, 5, 6)), y_train=numpy.arange(12) % 4)
    (tmp_path / "net.py").write_text(
        "from tests.models.test_attention import Fused\ndef net(): return Fused(interleaved=True)\n"
    )
    words = ["--model", f"{tmp_path / 'net.py'}:net", "--data", f"npz:{tmp_path / 'd.npz'}", "--attention"]
    answer = sharpcli("reparam", tmp_path / "net.pt", tmp_path / "out.pt", *words)
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert "attention here has no such symmetry" in answer.stderr
    assert not (tmp_path / "out.pt").exists()


def test_a_net_without_attention_is_refused(tmp_path: Path, sharpcli: Callable[..., Any], final: Path):
    answer = sharpcli("reparam", final, tmp_path / "out.pt", "--attention")
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert "no attention layer of a known kind" in answer.stderr
    answer = sharpcli("reparam", final, tmp_path / "out.pt", "--attention", "--layer", "1")
    assert answer.exit_code == 2
