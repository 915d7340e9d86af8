"""Updates of ResNet-18 a second, by hand and by sharpcli, in several precisions; leaves a trained net to the other pieces."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.problems import images, net
from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import arithmetic, once
from sharpcli.losses import LOSSES
from sharpcli.settings import TrainSettings
from sharpcli.training.plan import make_plan
from sharpcli.training.update import Updater

SECONDS = 45
_BATCH, _LR = 128, 0.05


def measure(setting: Setting) -> dict[str, Any]:
    """Return images a second by variant, and how well the net was trained."""
    count = 512 if setting.small else 50_000
    inputs, targets = images(setting, count)
    model = net("resnet18", setting)
    found: dict[str, Any] = {"updates": {}, "images": count}
    updates = 2 if setting.small else 60
    for name, amp, last, tf32 in (
        ("float32", False, False, False),
        ("bfloat16", True, False, True),
        ("bfloat16, channels last", True, True, True),
    ):
        with arithmetic(tf32=tf32):
            hand = _by_hand(copy.deepcopy(model), inputs, targets, updates, setting, amp=amp, last=last)
            row = {"by hand": hand}
            if not tf32 or amp:
                row["sharpcli"] = _ours(copy.deepcopy(model), inputs, targets, updates, setting, amp=amp, last=last)
                row["sharpcli full batch"] = _ours(
                    copy.deepcopy(model), inputs[: count // 5], targets[: count // 5], 1, setting, amp=amp, last=last, full=True
                )
        found["updates"][name] = row
    found["trained"] = _train(model, inputs, targets, setting)
    torch.save(model.state_dict(), setting.cache / "resnet18.pt")
    return found


def _step(model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, *, amp: bool) -> None:
    mixed: AbstractContextManager[object] = torch.autocast(inputs.device.type, torch.bfloat16) if amp else nullcontext()
    with mixed:
        loss = functional.cross_entropy(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _by_hand(
    model: nn.Module, inputs: Tensor, targets: Tensor, updates: int, setting: Setting, *, amp: bool, last: bool
) -> float:
    """Return images a second of the shortest loop."""
    if last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.train()
    order = torch.randperm(len(inputs), device=inputs.device)

    def run() -> None:
        for update in range(updates):
            chosen = order[(update * _BATCH) % (len(inputs) - _BATCH) :][:_BATCH]
            some = inputs[chosen]
            if last:
                some = some.contiguous(memory_format=torch.channels_last)
            _step(model, some, targets[chosen], optimizer, amp=amp)

    run()
    return updates * _BATCH / once(run, setting.device)


def _ours(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    updates: int,
    setting: Setting,
    *,
    amp: bool,
    last: bool,
    full: bool = False,
) -> float:
    """Return images a second of the package's own updates."""
    mode, chunk = ("fullbatch" if full else "sgd"), 1000
    settings = TrainSettings(
        mode=(mode,), lr=_LR, steps=1000, schedule="constant", warmup=0.0, clip=0.0, amp=amp, channels_last=last,
        batch_size=None if full else _BATCH, ghost_bn=min(chunk, len(inputs)) if full else _BATCH,
    )  # fmt: skip
    plan = make_plan(mode, settings, len(inputs), chunk_size=min(chunk, len(inputs)), has_batch_norm=True)
    updater = Updater(model, inputs, targets, LOSSES["ce"], plan, 0)

    def run(first: int) -> None:
        for update in range(first, first + updates):
            updater.gradient(update)
            updater.step(update)

    run(0)
    seconds = once(lambda: run(updates), setting.device)
    return updates * (len(inputs) if full else _BATCH) / seconds


def _train(model: nn.Module, inputs: Tensor, targets: Tensor, setting: Setting) -> dict[str, float]:
    """Train by hand in bfloat16, and return loss and accuracy on what it has seen."""
    epochs = 1 if setting.small else 4
    model.train().to(memory_format=torch.channels_last)
    total = epochs * (len(inputs) // _BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=total)

    def run() -> None:
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(inputs), device=inputs.device), _BATCH):
                if len(chosen) == _BATCH:
                    some = inputs[chosen].contiguous(memory_format=torch.channels_last)
                    _step(model, some, targets[chosen], optimizer, amp=True)
                    schedule.step()

    seconds = once(run, setting.device)
    model.to(memory_format=torch.contiguous_format).eval()
    with torch.no_grad():
        outputs = torch.cat([model(some) for some in torch.split(inputs, 500)])
    loss = float(functional.cross_entropy(outputs, targets))
    return {
        "seconds": seconds,
        "epochs": epochs,
        "loss": loss,
        "accuracy": float((outputs.argmax(1) == targets).double().mean()),
    }
