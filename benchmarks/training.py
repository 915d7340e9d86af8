"""Training beside loops written by hand: `python -m benchmarks.training`, with sharpcli installed.

Same model, same data on the device, same batches, same optimizer; each round runs both in turn in one process and the
table holds the medians of their ratios. The loops do what a paper's script does at least: gather a batch, backward, step;
a full batch adds up gradients over chunks. Neither evaluates, saves or logs within what is timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.conditions import processor
from sharpcli.datasets.resolve import resolve as resolve_data
from sharpcli.inputs import main_tensor
from sharpcli.losses import LOSSES
from sharpcli.models.resolve import resolve as resolve_model
from sharpcli.settings import TrainSettings
from sharpcli.training.plan import make_plan
from sharpcli.training.update import Updater

_LR, _BATCH, _CHUNK = 0.05, 64, 500
_NETS = {"mlp": ("mlp", ()), "convnet": ("convnet", ()), "convnet-bn": ("convnet", ("norm=batch",))}


def bare_epoch(model: nn.Module, inputs: Tensor, targets: Tensor, updates: int) -> None:
    """Train with small batches, as short as it can be written."""
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.train()
    order = torch.randperm(len(inputs))
    for update in range(updates):
        chosen = order[update * _BATCH : (update + 1) * _BATCH]
        loss = nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def bare_full_batch(model: nn.Module, inputs: Tensor, targets: Tensor, updates: int) -> None:
    """Descend the whole data, gradients added up over chunks."""
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.train()
    for _ in range(updates):
        optimizer.zero_grad()
        for some, wanted in zip(torch.split(inputs, _CHUNK), torch.split(targets, _CHUNK), strict=True):
            (nn.functional.cross_entropy(model(some), wanted, reduction="sum") / len(inputs)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def ours(model: nn.Module, inputs: Tensor, targets: Tensor, updates: int, *, mode: str) -> None:
    """Take the same updates by the package's own updater."""
    has_batch_norm = any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    full = mode == "fullbatch"
    settings = TrainSettings(
        mode=(mode,), lr=_LR, steps=updates, schedule="constant", warmup=0.0, clip=0.0,
        batch_size=None if full else _BATCH, ghost_bn=_CHUNK if full else _BATCH,
    )  # fmt: skip
    plan = make_plan(mode, settings, len(inputs), chunk_size=_CHUNK, has_batch_norm=has_batch_norm)
    updater = Updater(model, inputs, targets, LOSSES["ce"], plan, 0)
    for update in range(updates):
        updater.gradient(update)
        updater.step(update)


def seconds(work: Callable[..., None], *arguments: object, **more: object) -> float:
    """Return how long some work took."""
    began = time.perf_counter()
    work(*arguments, **more)
    return time.perf_counter() - began


def main() -> None:
    """Print a table, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = resolve_data("fashion-mini", root="")
    inputs, targets = main_tensor(data.train.inputs)[: asked.samples], data.train.targets[: asked.samples]
    rows = []
    machine = f"{processor()}, torch {torch.__version__}, {asked.threads} threads"
    print(f"{machine}, rounds: {asked.rounds}, {asked.samples} samples of fashion-mini")
    for name, (spec, options) in _NETS.items():
        torch.manual_seed(0)
        model = resolve_model(spec, input_shape=data.input_shape, num_classes=10, arguments=options)
        for mode, bare, updates, target in (
            ("sgd", bare_epoch, -(-len(inputs) // _BATCH), 1.1),
            ("fullbatch", bare_full_batch, 1, 1.05),
        ):
            pairs = []
            for _ in range(asked.rounds + 1):  # The first round warms up.
                hand = seconds(bare, copy.deepcopy(model), inputs, targets, updates)
                own = seconds(ours, copy.deepcopy(model), inputs, targets, updates, mode=mode)
                pairs.append((own, hand))
            ratio = statistics.median(own / hand for own, hand in pairs[1:])
            row = {"net": name, "mode": mode, "updates": updates, "ratio": ratio, "target": target}
            row |= {
                "seconds": statistics.median(own for own, _ in pairs[1:]),
                "bare": statistics.median(h for _, h in pairs[1:]),
            }
            rows.append(row)
            print(f"{name:10} {mode:9} {updates:3} updates: {row['seconds']:.3f} s, by hand {row['bare']:.3f} s, "
                  f"ratio {ratio:.3f} (target {target})")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
