"""A causal transformer on the bytes of Python's standard library; FULL has 1,046,880 parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.data import text
from benchmarks.recipe import Recipe

FULL = Recipe(
    model={"layers": 4, "width": 144, "length": 64},
    data={"count": 19_200, "length": 64},
    epochs=1,
    batch=32,
    learning_rate=3e-3,
    samples=16,
)
QUICK = Recipe(
    model={"layers": 2, "width": 48, "length": 32},
    data={"count": 8000, "length": 32},
    epochs=1,
    batch=32,
    learning_rate=3e-3,
    samples=8,
)


class Block(nn.Module):
    """Attention and a dense layer, each after a LayerNorm and with a way around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return what follows for x (B, T, width)."""
        parts = self.attend(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        answer: Tensor = x + self.dense(self.before_dense(x))
        return answer


class GPT(nn.Module):
    """Tokens (B, T), by default bytes, to logits (B, T, vocabulary), with one embedding for both ends."""

    def __init__(self, layers: int, width: int, length: int, heads: int = 4, vocabulary: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.02 * torch.randn(vocabulary, width))
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token at every place."""
        x = functional.embedding(tokens, self.embedding) + self.position
        return functional.linear(self.last(self.blocks(x)), self.embedding)


def build(layers: int, width: int, length: int) -> nn.Module:
    """Return the transformer."""
    return GPT(layers, width, length)


def data(count: int, length: int) -> tuple[Tensor, Tensor]:
    """Return bytes (count, length) and the bytes that follow each."""
    return text(count, length)
