"""One Hessian-vector product by every engine, beside what the card could do at best, for four nets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.environment import ROOT
from benchmarks.gpu import peaks
from benchmarks.gpu.problems import Problem, gpt, images, net
from benchmarks.gpu.roofline import least_seconds, to_dict
from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import arithmetic, median, wait
from benchmarks.progress import tell
from sharpcli import checkpoints, runtime
from sharpcli.curvature.operators import operator_of
from sharpcli.datasets.resolve import resolve as resolve_data
from sharpcli.inputs import main_tensor
from sharpcli.models.resolve import resolve as resolve_model
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime

SECONDS = 240
_ENGINES = ("double-backward", "fused", "forward-over-reverse")


def measure(setting: Setting) -> dict[str, Any]:
    """Return for each net, arithmetic, engine and number of samples at once the seconds, and the least they could be."""
    rates, began = peaks.measure(setting), time.perf_counter()
    rows: list[dict[str, Any]] = []
    for make, sizes, exact in _problems(setting):
        problem = make()
        for size in sizes:
            for tf32 in (False, True):
                limit = _limit(problem, size, setting, rates, tf32=tf32)
                rows.append(limit)
                tell(f"  {time.perf_counter() - began:.0f} s {rows[-1]}")
                for engine in ("fused",) if tf32 else _ENGINES:
                    rows.append(_row(problem, size, engine, setting, limit, tf32=tf32, exact=exact))
                    tell(f"  {time.perf_counter() - began:.0f} s {rows[-1]}")
        del problem
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return {"rows": rows}


def _problems(setting: Setting) -> list[tuple[Callable[[], Problem], tuple[int, ...], int]]:
    """Return what makes each problem, the numbers of samples to pass at once, and how many are held to float64."""
    small = setting.small
    return [
        (lambda: mlp(setting), (2500,) if small else (50_000,), 1000),
        (lambda: resnet18(setting, 16 if small else 2048), (8,) if small else (512,), 64),
        (lambda: wide(setting, 8 if small else 256), (4,) if small else (128,), 8),
        (lambda: gpt(setting, 2 if small else 8, 32 if small else 512), (2,) if small else (8,), 1),
    ]


def mlp(setting: Setting) -> Problem:
    """Return the sample MLP with its data, as often as gives 50,000 images."""
    checkpoint = checkpoints.read(ROOT / "sample_checkpoints" / "sgd")
    train = resolve_data("fashion-mini", root="").train
    inputs, targets = (
        torch.cat([part] * 10)[:50_000].to(setting.device) for part in (main_tensor(train.inputs), train.targets)
    )
    hidden = ",".join(str(len(weight)) for weight in checkpoint.state.values() if weight.ndim > 1)
    words = (f"hidden={hidden.rpartition(',')[0]}",)
    model = resolve_model("mlp", input_shape=tuple(inputs.shape[1:]), num_classes=10, arguments=words)
    model.load_state_dict(checkpoint.state)
    return Problem("mlp", model.to(setting.device), inputs, targets)


def resnet18(setting: Setting, count: int) -> Problem:
    """Return ResNet-18, trained if an earlier piece has done that."""
    model, saved = net("resnet18", setting), setting.cache / "resnet18.pt"
    if Path(saved).exists():
        model.load_state_dict(torch.load(saved, map_location=setting.device, weights_only=True))
    return Problem("resnet18", model, *images(setting, count))


def wide(setting: Setting, count: int) -> Problem:
    """Return WRN-28-10 as it was drawn, with BatchNorm's statistics those of the images."""
    model, (inputs, targets) = net("wrn28-10", setting), images(setting, count)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # The mean over all batches seen: here, one.
    with torch.no_grad():
        model.train()(inputs)
    return Problem("wrn28-10", model.eval(), inputs, targets)


def _limit(problem: Problem, size: int, setting: Setting, rates: dict[str, float], *, tf32: bool) -> dict[str, Any]:
    """Return the least seconds of a product by double backward over all samples, from one chunk of them."""
    name = "tf32" if tf32 else "float32"
    row: dict[str, Any] = {"net": problem.name, "at once": size, "arithmetic": name}
    with let(tf32=tf32):
        objective = replace_samples(_objective(problem, setting, size), size)
        theta, times = objective.parameters(), len(problem.inputs) / size
        operator = operator_of("hessian", objective, theta, engine="double-backward", memory=0)
        operator @ theta
        work = least_seconds(lambda: operator @ theta, rates, name)
    return row | {key: value * times for key, value in to_dict(work).items()}


def _row(
    problem: Problem, size: int, engine: str, setting: Setting, limit: dict[str, Any], *, tf32: bool, exact: int
) -> dict[str, Any]:
    """Time products of new graphs and of kept ones."""
    row: dict[str, Any] = {"net": problem.name, "engine": engine, "at once": size, "samples": len(problem.inputs)}
    row["arithmetic"] = "tf32" if tf32 else "float32"
    try:
        with let(tf32=tf32):
            objective = _objective(problem, setting, size)
            vector = torch.randn(objective.space.dimension, device=setting.device)
            vector /= torch.linalg.vector_norm(vector)
            theta = objective.parameters()
            fresh = operator_of("hessian", objective, theta, engine=engine, memory=0)
            row["anew"] = median(lambda: fresh @ vector, setting.device, repeats=2)
            row |= {"times limit": row["anew"] / limit["limit"], "used": fresh.engine}
            fits = replace_samples(objective, min(len(problem.inputs), 2 * size))
            kept = operator_of("hessian", fits, theta, engine=engine)
            kept @ vector
            scale = len(problem.inputs) / fits.num_samples
            row["kept"] = scale * median(lambda: kept @ vector, setting.device, repeats=2)
            row["kept words"] = kept.engine
            wait(setting.device)
            row["error"] = _error(problem, setting, engine, vector, exact)
    except Exception as error:  # A net that an engine cannot take is a row that says so.
        row["error"] = f"{type(error).__name__}: {error}"[:300]
    return row


def _objective(problem: Problem, setting: Setting, size: int, dtype: str = "float32") -> Objective:
    where = Runtime(torch.device(setting.device), getattr(torch, dtype))
    return Objective.of(problem.model, problem.inputs, problem.targets, runtime=where, chunk_size=size)


def replace_samples(objective: Objective, count: int) -> Objective:
    """Return the mean loss over the first samples."""
    return objective.among(torch.arange(count, device=objective.targets.device))


def _error(problem: Problem, setting: Setting, engine: str, vector: Tensor, count: int) -> float:
    """Return how far a product over some samples is from that in float64, relative to its length."""
    few = Problem(problem.name, problem.model, problem.inputs[:count], problem.targets[:count])
    found, held = (
        operator_of("hessian", objective, objective.parameters(), engine=name, memory=0) @ vector.to(objective.runtime.dtype)
        for objective, name in (
            (_objective(few, setting, count), engine),
            (_objective(few, setting, count, "float64"), "double-backward"),
        )
    )
    return float(torch.linalg.vector_norm(found.double() - held) / torch.linalg.vector_norm(held))


@contextmanager
def let(*, tf32: bool) -> Iterator[None]:
    """Let sharpcli's products be of TF32, which it forbids, for measuring what that would bring."""
    before = runtime._tf32_switches
    try:
        if tf32:
            runtime._tf32_switches = list  # Nothing is switched off.
        with arithmetic(tf32=tf32):
            yield
    finally:
        runtime._tf32_switches = before
