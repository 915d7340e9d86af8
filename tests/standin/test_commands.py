"""Every command on a second device: the numbers are those of the CPU, and the host seldom waits for the device."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from sharpcli.plugins import names
from tests.standin.running import answers, needs_stand_in, on_stand_in

pytestmark = [needs_stand_in, pytest.mark.cpu]

METHODS = "--ghost-bn 16 --sam 0.05 --clip 1 --augment flip,crop --example-noise 0.1 --average tail:0.5"
HESSIAN = "hessian {runs}/net/sgd --topk 2 --tol 1e-6"
# Without the local learning coefficient, whose thousands of small passes take minutes on this device.
MEASURES = " ".join(f"--measure {name}" for name in names("measures") if name != "local-learning-coefficient")
# Each command line with the largest relative difference from the CPU.
CASES = {
    "train --model mlp --model-arg hidden=8 --data {data} --steps 6 --mode sgd,fullbatch --out {own}/net": 1e-5,
    f"train --model resnet8 --data {{data}} --steps 2 --batch-size 32 {METHODS} --out {{own}}/images": 1e-5,
    "inspect {runs}/net/sgd": 1e-5,
    f"{HESSIAN} --trace --ggn-split --per-layer": 1e-5,
    f"{HESSIAN} --density --which SA": 1e-5,
    f"{HESSIAN} --operator ggn": 1e-5,
    f"{HESSIAN} --operator fisher": 1e-5,
    f"{HESSIAN} --operator empirical-fisher": 1e-5,
    f"{HESSIAN} --engine linearize": 1e-5,
    f"{HESSIAN} --engine forward-over-reverse": 1e-5,
    f"{HESSIAN} --engine fused": 1e-5,
    f"{HESSIAN} --engine difference": 1e-5,
    f"{HESSIAN} --dtype float64": 1e-9,
    f"{HESSIAN} --split both --samples 40": 1e-5,
    f"{HESSIAN} --above 0.1 --certify all": 1e-5,
    "hessian {runs}/images/sgd --topk 1 --bn batch --bn-block 50": 1e-5,
    "hessian {runs}/images/sgd --topk 1 --bn recompute": 1e-5,
    f"sharpness {{runs}}/net/sgd {MEASURES}": 2e-3,  # The search of PAC-Bayes stops at a tolerance of its own.
    "sharpness {runs}/net/sgd --samples 50": 1e-4,  # Ends of searches for a maximum.
    "compare {runs}/net/sgd {runs}/net/fullbatch": 1e-4,
    "interpolate {runs}/net/sgd {runs}/net/fullbatch --points 3 --curvature": 1e-5,
    "interpolate {runs}/net/sgd {runs}/net/fullbatch --points 3 --path bezier --align": 1e-5,
    "surface {runs}/net/sgd --points 3": 1e-5,
    "surface {runs}/net/sgd --points 3 --axes eigen": 1e-5,
    "distance {runs}/net/sgd": 1e-5,
}
# Rounding errors and the course of a search, which are others on every device.
OTHERS = {
    "residual", "residual_history", "noise_floor", "rounding", "orthogonality", "interval", "ceiling", "floor", "density",
    "passes", "products", "products_by_use", "cost", "engine", "run", "phi_of_restarts",
}  # fmt: skip


def numbers(part: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield all numbers of a result with their places."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name not in OTHERS and "seconds" not in name:
                yield from numbers(inner, f"{place}/{name}")
    elif isinstance(part, list):
        for position, inner in enumerate(part):
            yield from numbers(inner, f"{place}/{position}")
    elif isinstance(part, float):
        yield place, part


@pytest.mark.slow
def test_every_command_has_the_numbers_of_the_cpu(sharpcli: Callable[..., Any], tmp_path: Path) -> None:
    """Both devices analyse the runs that the CPU has trained. One test, since all lines share one process with the device."""
    random = numpy.random.default_rng(0)
    labels = numpy.arange(150) % 3
    images = (random.normal(size=(150, 1, 8, 8)) + labels[:, None, None, None] / 2).astype(numpy.float32)
    numpy.savez(tmp_path / "d.npz", x_train=images[:100], y_train=labels[:100], x_test=images[100:], y_test=labels[100:])

    def words(line: str, device: str) -> list[str]:
        made = line.format(data=f"npz:{tmp_path / 'd.npz'}", runs=tmp_path / "cpu", own=tmp_path / device).split()
        return made if made[0] == "distance" else [*made, "--device", device]

    ours = {line: sharpcli(*words(line, "cpu"), "--json") for line in CASES}
    theirs = dict(zip(CASES, answers([words(line, "cuda") for line in CASES]), strict=True))
    for line in CASES:
        assert ours[line].exit_code == theirs[line]["code"], (line, ours[line].stderr, theirs[line]["stderr"])
        difference = different(json.loads(ours[line].stdout)["result"], theirs[line]["document"]["result"], CASES[line])
        assert difference == {}, line
        # With the settings of torch, CUDA rounds float32 to TF32 in convolutions.
        rounded = [place for kind, place, _ in theirs[line]["events"] if kind == "rounded to TF32"]
        assert rounded == [], line
    events = theirs[f"{HESSIAN} --operator ggn"]["events"]
    summing = ("losses/loss.py", "curvature/operator.py")
    waits = [count for kind, place, count in events if kind != "to the device" and place.startswith(summing)]
    assert waits
    assert max(waits) < 6  # The sampling error is made of 40 groups.
    events = theirs["interpolate {runs}/net/sgd {runs}/net/fullbatch --points 3 --curvature"]["events"]
    moved = sum(count for _, place, count in events if place.startswith("inputs.py"))
    assert moved <= 6  # Inputs and targets of both splits, and few samples of each checkpoint for a check.


UPDATES = """
from sharpcli.losses import loss_of
from sharpcli.runtime import exact_arithmetic
from sharpcli.training.plan import make_plan
from sharpcli.settings import TrainSettings
from sharpcli.training.update import Updater
from sharpcli.models.architectures.resnet8 import build
torch.manual_seed(0)
net, images, labels = build(input_shape=(3, 8, 8), num_classes=3), torch.randn(50, 3, 8, 8), torch.arange(50) % 3
plain = dict(lr=0.1, steps=9)
noisy = dict(clip=0.1, example_noise=0.1, coordinate_noise=0.1, additive_noise=0.1, augment=("flip", "crop"))
methods = {
    "plain": ("sgd", plain | dict(batch_size=20)),
    "chunks": ("fullbatch", plain | dict(ghost_bn=16)),
    "sam": ("fullbatch", plain | noisy | dict(sam=0.1, ghost_bn=16, grad_penalty=0.5)),
    "asam": ("sgd", plain | noisy | dict(asam=0.1, adversarial=0.1, optimizer="adam", augment_copies=2, batch_size=20)),
    "proximal": ("sgd", plain | dict(proximal=0.1, proximal_steps=3, shuffle="replacement", batch_size=20)),
}
counts = {}
for name, (mode, words) in methods.items():
    plan = make_plan(mode, TrainSettings(model="resnet8", **words), 50, chunk_size=50, has_batch_norm=True)
    model = build(input_shape=(3, 8, 8), num_classes=3).to("cuda")
    made = Updater(model, images.to("cuda"), labels.to("cuda"), loss_of("ce", labels), plan, 0)
    for update in range(3):
        device.events.clear()
        with exact_arithmetic():
            loss = made.gradient(update)
            made.step(update)
        counts[name] = [count for (kind, _), count in device.events.items() if kind != "to the device"]
print(json.dumps(counts))
"""


@pytest.mark.slow
def test_the_host_never_waits_for_an_update() -> None:
    """The loop reads the loss of an update, which is the only wait between two evaluations."""
    assert json.loads(on_stand_in(UPDATES)) == {name: [] for name in ("plain", "chunks", "sam", "asam", "proximal")}


def different(here: dict[str, Any], there: dict[str, Any], allowed: float) -> dict[str, tuple[float, float]]:
    """Return the numbers that differ by more than a relative difference, by their places; small ones may differ by a tenth."""
    ours, theirs = dict(numbers(here)), dict(numbers(there))
    assert ours.keys() == theirs.keys()
    least = allowed / 10 * min(max(map(abs, ours.values()), default=0), 1)
    return {
        name: (ours[name], theirs[name])
        for name in ours
        if not math.isclose(ours[name], theirs[name], rel_tol=allowed, abs_tol=least)
        and not (math.isnan(ours[name]) and math.isnan(theirs[name]))
    }


STEPS = """
from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.krylov import Krylov
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3))
made = Objective.of(net, torch.randn(40, 6), torch.arange(40) % 3, runtime=Runtime(torch.device("cuda"), torch.float32))
basis = Krylov(operator_of("hessian", made, made.parameters(), engine="double-backward"), capacity=20, seed=0)
basis.step()
counts = []
for _ in range(15):
    device.events.clear()
    basis.step()
    counts.append(sum(count for (kind, _), count in device.events.items() if kind != "to the device"))
print(json.dumps(counts))
"""


@pytest.mark.slow
def test_a_lanczos_step_waits_once_or_for_each_pass_of_the_orthogonalisation() -> None:
    counts = json.loads(on_stand_in(STEPS))
    assert sorted(counts)[len(counts) // 2] == 1
    assert max(counts) <= 3
