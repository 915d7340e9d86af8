"""The queries, keys and values of attention are found in the layers of several libraries, and in no other layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli import progress
from sharpcli.analyses.hessian.partition import partition
from sharpcli.models.attention import projections
from sharpcli.objective import Objective
from tests.device import on_device


class Fused(nn.Module):
    """Attention over 5 tokens with 2 heads of 3 channels; rows of all queries first, or interleaved head by head."""

    def __init__(self, *, interleaved: bool) -> None:
        super().__init__()
        self.num_heads, self.interleaved = 2, interleaved
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        shape, order = ((2, 3, 3), (3, 0, 2, 1, 4)) if self.interleaved else ((3, 2, 3), (2, 0, 3, 1, 4))
        parts = self.qkv(inputs).unflatten(-1, shape).permute(*order)
        mixed = functional.scaled_dot_product_attention(*parts.unbind(0))
        return self.out(mixed.transpose(1, 2).flatten(2).mean(1))


class Torch(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(6, 2, batch_first=True, **options), nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.attention(inputs, inputs, inputs, need_weights=False)[0].mean(1))


class Grouped(nn.Module):
    """Four heads of queries, two of keys and values, in layers of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(6, 8, bias=False), nn.Linear(6, 4), nn.Linear(6, 4)
        self.o_proj = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        sizes = ((self.q_proj, 1), (self.k_proj, 2), (self.v_proj, 2))
        parts = [layer(inputs).unflatten(-1, (-1, 2)).transpose(1, 2).repeat_interleave(each, 1) for layer, each in sizes]
        mixed = functional.scaled_dot_product_attention(*parts)
        return self.o_proj(mixed.transpose(1, 2).flatten(2).mean(1))


def made(model: nn.Module) -> Objective:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 5, 6, generator=random, dtype=torch.float64)
    return Objective.of(model, inputs, torch.arange(12) % 4, runtime=on_device("float64"))


NETS = {
    "fused": (Fused(interleaved=False), ["query", "key", "value"]),
    "torch": (Torch(), ["query", "key", "value"]),
    "torch, apart": (Torch(kdim=6, vdim=6), ["query", "key", "value"]),
    "torch, no bias": (Torch(bias=False), ["query", "key", "value"]),
    "grouped": (Grouped(), ["query", "key", "value"]),
}


@pytest.mark.parametrize("name", NETS)
def test_each_head_is_a_block(name: str):
    model, kinds = NETS[name]
    objective = made(model)
    assert [*dict.fromkeys(one.kind for one in projections(objective.model))] == kinds
    with progress.gathering() as warnings:
        blocks = partition("head", objective)
    assert warnings == []
    heads = {block.name: block.size(objective.space) for block in blocks if " head " in block.name}
    wanted = 4 + 2 + 2 if name == "grouped" else 6
    assert len(heads) == wanted
    if name == "fused":
        assert heads == {f"qkv {kind} head {number}": 3 * 6 + 3 for kind in kinds for number in (1, 2)}
    places = torch.cat([block.take(torch.arange(objective.space.dimension), objective.space) for block in blocks])
    assert sorted(places.tolist()) == list(range(objective.space.dimension))


def test_a_head_is_what_its_output_depends_on():
    """The value rows of head 2 are the rows that change its channels: the block holds their entries and no others."""
    objective = made(Fused(interleaved=False))
    block = {block.name: block for block in partition("head", objective)}["qkv value head 2"]
    rows = block.spread(torch.ones(21, dtype=torch.float64), objective.space)
    assert rows["qkv.weight"].any(1).nonzero()[:, 0].tolist() == [15, 16, 17]
    assert rows["qkv.bias"].nonzero()[:, 0].tolist() == [15, 16, 17]


def test_queries_keys_and_values_are_apart_without_heads():
    objective = made(Torch())
    found = {block.name: block.size(objective.space) for block in partition("projection", objective)}
    assert found == {f"attention {kind}": 42 for kind in ("query", "key", "value")} | {"attention.out_proj": 42, "out": 28}


def test_another_order_is_not_divided_and_said():
    with progress.gathering() as warnings:
        blocks = partition("head", made(Fused(interleaved=True)))
    assert [block.name for block in blocks] == ["qkv", "out"]
    assert any("in an order that is not known" in warning for warning in warnings)


def test_a_net_without_attention_has_layers_and_says_so():
    objective = made(nn.Sequential(nn.Flatten(), nn.Linear(30, 4)))
    with progress.gathering() as warnings:
        blocks = partition("head", objective)
    assert [block.name for block in blocks] == ["1"]
    assert any("No attention layer" in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "gpt2", "bert"])
def test_layers_of_libraries_are_known(library: str):
    if library == "timm":
        timm = pytest.importorskip("timm")
        net = timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=3
        )
        inputs: Tensor = torch.randn(8, 3, 16, 16)
        model = net
    else:
        transformers = pytest.importorskip("transformers")
        inputs = torch.randint(0, 20, (8, 6))
        if library == "gpt2":
            config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
            net = transformers.GPT2LMHeadModel(config)
        else:
            size = {
                "hidden_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 8,
                "vocab_size": 20,
            }
            net = transformers.BertForSequenceClassification(transformers.BertConfig(**size, num_labels=3))

        class Logits(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = net

            def forward(self, tokens: Tensor) -> Tensor:
                found: Tensor = self.net(tokens).logits
                return found[:, -1] if found.ndim == 3 else found

        model = Logits()
    objective = Objective.of(model.eval(), inputs, torch.arange(8) % 3, runtime=on_device("float32"))
    with progress.gathering() as warnings:
        blocks = partition("head", objective)
    assert warnings == []
    assert sum(" head " in block.name for block in blocks) == 6
