"""The built-in transformer, against the same network written with an explicit softmax and mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.errors import InputError, SettingsError
from sharpcli.models.architectures.gpt import GPT, build
from sharpcli.models.resolve import resolve


def small(**options: object) -> GPT:
    torch.manual_seed(0)
    sizes = {"layers": 2, "width": 8, "heads": 2} | options
    model = build(input_shape=(6,), num_classes=5, **sizes).double()  # type: ignore[arg-type]
    assert isinstance(model, GPT)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(0.3 * torch.randn_like(part))
    return model


def by_hand(model: GPT, tokens: Tensor) -> Tensor:
    """Return the logits by loops over heads and places."""
    x = model.tokens.weight[tokens] + model.positions.weight[: tokens.shape[1]]
    for block in model.blocks:
        normed, attention = block.norm1(x), block.attention
        queries, keys, values = (normed @ attention.qkv.weight.T + attention.qkv.bias).split(x.shape[-1], dim=-1)
        mixed, size = torch.zeros_like(x), x.shape[-1] // attention.heads
        for head in range(attention.heads):
            part = slice(head * size, (head + 1) * size)
            for place in range(x.shape[1]):
                scores = (keys[:, : place + 1, part] @ queries[:, place, part, None])[..., 0] / math.sqrt(size)
                mixed[:, place, part] = (scores.softmax(-1)[..., None] * values[:, : place + 1, part]).sum(1)
        x = x + mixed @ attention.proj.weight.T + attention.proj.bias
        hidden = functional.gelu(block.dense[0](block.norm2(x)), approximate="tanh")
        x = x + block.dense[2](hidden)
    return model.norm(x) @ model.head.weight.T


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_those_of_the_formula(tied: bool) -> None:
    model = small(tied=tied)
    tokens = torch.randint(0, 5, (3, 6))
    torch.testing.assert_close(model(tokens), by_hand(model, tokens))
    assert (model.head.weight is model.tokens.weight) == tied


@torch.no_grad()
def test_a_token_sees_no_later_one() -> None:
    model = small(context=9)
    tokens = torch.randint(0, 5, (2, 6))
    other = tokens.clone()
    other[:, 4] = (other[:, 4] + 1) % 5
    before, after = model(tokens), model(other)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 5], after[:, 5])
    torch.testing.assert_close(model(tokens[:, :3]), before[:, :3])


@torch.no_grad()
def test_size_and_initial_weights() -> None:
    model = build(input_shape=(64,), num_classes=62)
    assert sum(part.numel() for part in model.parameters()) == 29_504
    untied = build(input_shape=(64,), num_classes=62, tied=False)
    assert sum(part.numel() for part in untied.parameters()) == 29_504 + 62 * 32
    deep = build(input_shape=(4,), num_classes=9, layers=8, width=256)
    assert isinstance(deep, GPT)
    assert float(deep.positions.weight.std()) == pytest.approx(1 / 16, rel=0.1)
    assert float(deep.blocks[3].dense[2].weight.std()) == pytest.approx(1 / 32 / 4, rel=0.02)
    loss = functional.cross_entropy(model(torch.randint(0, 62, (4, 64))).flatten(0, 1), torch.randint(0, 62, (256,)))
    assert math.log(62) < float(loss) < math.log(62) + 1  # The logits have a variance near 1.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["heads=3"], "width is 32, not a multiple of heads, 3"),
        (["context=5"], "context is 5, but the texts have 6 tokens"),
        (["layers=0"], "layers is 0, below 1"),
        (["heads=0"], "heads is 0, below 1"),
        (["depth=2"], "no option called 'depth'"),
    ],
)
def test_bad_options(options: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve("gpt", input_shape=(6,), num_classes=5, arguments=options)


def test_images_are_refused() -> None:
    with pytest.raises(InputError, match="needs texts of tokens"):
        resolve("gpt", input_shape=(1, 28, 28), num_classes=10)


def test_dropout_there_is_none() -> None:
    assert not any(isinstance(part, nn.Dropout) for part in small().modules())
