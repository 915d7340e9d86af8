"""Train each net once from a fixed seed; weights, data and reference wait in .cache/ under a hash of what they were made by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.problem import CrossEntropy, Problem
from benchmarks.progress import tell
from benchmarks.recipe import Recipe
from sharpcli import files

HERE = Path(__file__).parent
CACHE = HERE / ".cache"


def recipe_of(net: str, *, quick: bool) -> Recipe:
    """Return the recipe of a net, by its name on the command line."""
    module = _module(net)
    recipe: Recipe = module.QUICK if quick else module.FULL
    return recipe


def _place(net: str, *, quick: bool, ending: str = ".pt", more: Sequence[object] = ()) -> Path:
    """Return where something about a trained net is kept.

    Args:
        net: Name on the command line.
        quick: Which recipe.
        ending: Of the file.
        more: What else the contents depend on.
    """
    own = net.replace("-", "_")
    sources = [(HERE / name).read_text() for name in (f"nets/{own}.py", "data.py", "prepare.py")]
    parts = [json.dumps([asdict(recipe_of(net, quick=quick)), *more], default=str), *sources]
    return CACHE / f"{net}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}{ending}"


def train(net: str, *, quick: bool) -> dict[str, float]:
    """Train a net if that was not done yet, and return what it has come to."""
    place = _place(net, quick=quick)
    if not place.exists():
        tell(f"{net}: training")
        recipe = recipe_of(net, quick=quick)
        inputs, targets = _module(net).data(**recipe.data)
        torch.manual_seed(0)
        model = _module(net).build(**recipe.model)
        _train(model, inputs, targets, recipe)
        facts = _facts(model, inputs, targets)
        files.write_object(place, {"state": model.state_dict(), "inputs": inputs, "targets": targets, "facts": facts})
    kept: dict[str, float] = files.read_object(place)["facts"]
    return kept


def remembered(net: str, key: Sequence[object], make: Callable[[], dict[str, Any]], *, quick: bool) -> dict[str, Any]:
    """Return something about a trained net, made the first time it is asked for.

    Args:
        net: Name on the command line.
        key: What it depends on besides the net; its first item says what it is.
        make: Makes it, in plain values.
        quick: Whether it is the small net.
    """
    place = _place(net, quick=quick, ending=".json", more=key)
    if not place.exists():
        tell(f"{net}: {key[0]}")
        files.write_bytes(place, json.dumps(make()).encode())
    kept: dict[str, Any] = json.loads(place.read_text())
    return kept


def problem_of(net: str, samples: int, *, quick: bool) -> Problem:
    """Return a net that was prepared, with the first of its training samples.

    Args:
        net: Name on the command line.
        samples: N.
        quick: Whether it is the small one.
    """
    kept: dict[str, Any] = files.read_object(_place(net, quick=quick))
    model = _module(net).build(**recipe_of(net, quick=quick).model)
    model.load_state_dict(kept["state"])
    return Problem(model.eval(), kept["inputs"][:samples].clone(), kept["targets"][:samples].clone())


def _module(net: str) -> Any:
    return import_module(f"benchmarks.nets.{net.replace('-', '_')}")


def _train(model: nn.Module, inputs: Tensor, targets: Tensor, recipe: Recipe) -> None:
    """Take epochs of Adam, over whole batches in a new order each time, with a rate that falls to 0: near a minimum it ends."""
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    steps = recipe.epochs * (len(inputs) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    criterion, random = CrossEntropy(), torch.Generator().manual_seed(0)
    for _ in range(recipe.epochs):
        for chosen in torch.split(torch.randperm(len(inputs), generator=random), recipe.batch):
            if len(chosen) == recipe.batch:
                optimizer.zero_grad()
                criterion(model(inputs[chosen]), targets[chosen]).backward()
                optimizer.step()
                schedule.step()


@torch.no_grad()
def _facts(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the number of parameters, and loss and accuracy in eval mode over at most 1,000 training samples."""
    few, wanted = inputs[:1000], targets[:1000]
    outputs = torch.cat([model.eval()(piece) for piece in torch.split(few, 100)])
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_loss": float(CrossEntropy()(outputs, wanted)),
        "train_accuracy": float((outputs.argmax(-1) == wanted).double().mean()),
    }
