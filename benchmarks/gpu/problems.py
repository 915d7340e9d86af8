"""The nets and data of the measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.session import Setting
from benchmarks.nets.gpt import GPT
from sharpcli.datasets.resolve import resolve as resolve_data
from sharpcli.models.resolve import resolve as resolve_model

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


def gpt(setting: Setting, count: int, length: int) -> Problem:
    """Return a random transformer of the size of GPT-2 small, about 124 million parameters, and Zipf-like tokens of a chain."""
    vocabulary = 97 if setting.small else 50257
    size = {"layers": 2, "width": 48, "heads": 4} if setting.small else {"layers": 12, "width": 768, "heads": 12}
    torch.manual_seed(0)
    model = GPT(**size, vocabulary=vocabulary, length=length).to(setting.device)
    random = torch.Generator().manual_seed(1)
    draws = (torch.rand(count, length + 1, generator=random) ** -1.0 - 1).clamp(max=vocabulary - 1).long()
    tokens = (draws.cumsum(1) % vocabulary).to(setting.device)
    return Problem("gpt2-small", model, tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
