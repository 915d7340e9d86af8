"""The nets and data of the measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.session import Setting
from sharpcli.datasets._resolve import resolve as resolve_data
from sharpcli.models._resolve import resolve as resolve_model

_CLASSES = 10


@dataclass(frozen=True, eq=False)
class Problem:
    """A net, and samples in memory on the device."""

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor


def images(setting: Setting, count: int) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, 32, 32), standardised, and their classes, on the device.

    Synthetic ones are a smooth picture for each class, moved at random, under noise: a net learns them in an epoch.
    """
    kept = setting.cache / "images.pt"
    if setting.data:
        if not kept.exists():
            train = resolve_data(setting.data, root="").train
            torch.save((train.inputs, train.targets), kept)
        inputs, labels = torch.load(kept, weights_only=True)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:count]
        return inputs[order].to(setting.device), labels[order].to(setting.device)
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(_CLASSES, 3, 6, 6, generator=random)
    smooth = functional.interpolate(coarse, size=(40, 40), mode="bilinear")
    targets = torch.randint(0, _CLASSES, (count,), generator=random)
    top, left = torch.randint(0, 9, (2, count), generator=random)
    windows = smooth.unfold(2, 32, 1).unfold(3, 32, 1)  # (10, 3, 9, 9, 32, 32)
    places = zip(*(torch.split(part, 1000) for part in (targets, top, left)), strict=True)
    chosen = torch.cat([windows[t, :, i, j] for t, i, j in places])
    noisy = torch.cat([part.to(setting.device) for part in torch.split(chosen, 1000)])
    noisy = noisy + 1.5 * torch.randn(noisy.shape, device=setting.device)
    return noisy.contiguous(), targets.to(setting.device)


def net(name: str, setting: Setting) -> nn.Module:
    """Return an image classifier of sharpcli by name, of a tenth of the width where things are small."""
    small = {"resnet18": ("width=8",), "wrn28-10": ("width=16",)}
    torch.manual_seed(0)
    words = small.get(name, ()) if setting.small else ()
    return resolve_model(name, input_shape=(3, 32, 32), num_classes=_CLASSES, arguments=words).to(setting.device)


class Block(nn.Module):
    """Attention and a dense layer, each after a LayerNorm and with a way around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return what follows for x (B, T, width)."""
        parts = self.attend(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        answer: Tensor = x + self.dense(self.before_dense(x))
        return answer


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V), with one embedding for both ends; GPT-2 small has 12 layers of width 768."""

    def __init__(self, *, layers: int, width: int, heads: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last = nn.LayerNorm(width)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * layers) if "project" in name else 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token at every place."""
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        return functional.linear(self.last(self.blocks(x)), self.embedding.weight)


def gpt(setting: Setting, count: int, length: int) -> Problem:
    """Return a transformer as large as GPT-2 small (124,439,808 parameters) and Zipf-like tokens of a chain."""
    vocabulary = 97 if setting.small else 50257
    size = {"layers": 2, "width": 48, "heads": 4} if setting.small else {"layers": 12, "width": 768, "heads": 12}
    torch.manual_seed(0)
    model = GPT(**size, vocabulary=vocabulary, length=128 if setting.small else 1024).to(setting.device)
    random = torch.Generator().manual_seed(1)
    draws = (torch.rand(count, length + 1, generator=random) ** -1.0 - 1).clamp(max=vocabulary - 1).long()
    tokens = (draws.cumsum(1) % vocabulary).to(setting.device)
    return Problem("gpt2-small", model, tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
