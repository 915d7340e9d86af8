"""Train the papers' recipes on Fashion-MNIST at CPU scale, and write what came out to docs/recipes.md.

    python tools/measure_recipes.py [FOLDER] [--seeds 3] [--only keskar,hoffer]

FOLDER (default runs/recipes) keeps the runs; what is there is not trained again. About half an hour for three seeds on
one core. Orderings are counted, seed by seed, whether or not they come out as the papers say.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch

import sharpcli
from sharpcli.datasets.resolve import resolve as resolve_data

DOC = Path(__file__).parents[1] / "docs" / "recipes.md"
BN, NO_BN = ("width=128",), ("width=128", "norm=none")
Row = dict[str, float]
Measured = dict[str, list[Row]]

KESKAR = {"model": "f1", "stop_train_loss": 0.02, "eval_every": 10, "epochs": 400.0}
HOFFER = {"model": "f1", "model_arg": BN, "epochs": 20.0, "drops": "10:0.1,15:0.01", "augment": "none"}
GEIPING = {"model": "f1", "model_arg": BN, "augment": "none"}
NITANDA = {"model": "f1", "model_arg": BN}
EDGE = {"model": "mlp", "model_arg": ("hidden=100,100", "activation=tanh"), "steps": 1200, "track_sharpness": 200}

# Name of the row: recipe, what replaces its settings here, number of training images.
RUNS: dict[str, dict[str, tuple[str, dict[str, object], int]]] = {
    "keskar": {
        f"{name}, {norm}": (recipe, KESKAR | {"model_arg": arguments} | more, 4000)
        for norm, arguments in (("BN", BN), ("no norm", NO_BN))
        for name, recipe, more in (
            ("small batch 64", "keskar-sb", {"batch_size": 64}),
            ("large batch 400", "keskar-lb", {}),
            ("full batch", "keskar-lb", {"mode": "fullbatch"}),
        )
    },
    "hoffer": {
        "small batch 128": ("hoffer-sb", HOFFER, 10_000),
        "large batch 1024": ("hoffer-lb", HOFFER | {"batch_size": 1024, "clip": 0.0}, 10_000),
        "+ √ rate, clipped at 5": ("hoffer-lr", HOFFER | {"batch_size": 1024}, 10_000),
        "+ ghost batch norm": ("hoffer-gbn", HOFFER | {"batch_size": 1024}, 10_000),
        "+ regime adaptation": ("hoffer-ra", HOFFER | {"batch_size": 1024}, 10_000),
    },
    "geiping": {
        "SGD, 40 epochs": ("geiping-sgd", GEIPING | {"epochs": 40.0}, 4000),
        "full batch, 40 steps": ("geiping-fb", GEIPING | {"steps": 40}, 4000),
        "300 steps, rate 0.4": ("geiping-longer", GEIPING | {"steps": 300, "warmup": 40.0, "schedule_steps": 400}, 4000),
        "+ clip 0.25": ("geiping-clip", GEIPING | {"steps": 300, "warmup": 40.0, "schedule_steps": 400}, 4000),
        "+ penalty, rate 0.8": ("geiping-reg", GEIPING | {"steps": 300, "warmup": 40.0, "schedule_steps": 400}, 4000),
        "+ blocks of 32": ("geiping-strong", GEIPING | {"steps": 300, "warmup": 40.0, "schedule_steps": 400}, 4000),
    },
    "nitanda": {f"rate {lr}": ("nitanda-tail", NITANDA | {"lr": lr}, 4000) for lr in (0.01, 0.1, 0.5)}
    | {"cosine, rate 0.1": ("nitanda-tail", NITANDA | {"schedule": "cosine"}, 4000)},
    "cohen": {f"rate {lr}": ("eos-gd", EDGE | {"lr": lr}, 2000) for lr in (0.05, 0.1)},
}


def data_of(folder: Path, count: int) -> str:
    """Write the first images of fashion-mini as a data set of its own, and return its spec."""
    path = folder / f"fashion-{count}.npz"
    if not path.exists():
        data = resolve_data("fashion-mini", root="")
        parts = {"x_train": data.train.inputs[:count], "y_train": data.train.targets[:count]}
        parts |= {"x_test": data.test.inputs, "y_test": data.test.targets}
        np.savez(path, **{name: part.numpy() for name, part in parts.items()})
    return f"npz:{path}"


def measure(folder: Path, paper: str, name: str, seed: int) -> list[Row]:
    """Train one run unless it is there, and return a row for it and one for each of its averages."""
    recipe, chosen, count = RUNS[paper][name]
    out = folder / paper / f"{name.replace(' ', '-').replace(',', '')}-s{seed}"
    cached = out / "measured.json"
    if cached.exists():
        return list(json.loads(cached.read_text()))
    trained = sharpcli.train(recipe=recipe, data=data_of(folder, count), seed=seed, out=str(out), overwrite=True, **chosen)
    rows = []
    for row in trained.rows:
        top = sharpcli.hessian(row.checkpoint, topk=1, samples=min(2000, count))
        found: Row = {
            "updates": row.updates,
            "train loss": row.train_loss,
            "train accuracy": row.train_accuracy or 0,
            "test accuracy": row.test_accuracy or 0,
            "λmax": top.lambda_max or float("nan"),
            "distance": sharpcli.distance(row.checkpoint).distance,
            "seconds": row.seconds,
        }
        if paper == "keskar":
            phi = sharpcli.sharpness(row.checkpoint, epsilon=(1e-3, 5e-4), subspace=(0,), samples=2000)
            found |= {f"φ({part.epsilon:g})": part.phi or float("nan") for part in phi.measurements}
        if paper == "cohen":
            lines = (Path(row.folder) / "sharpness.jsonl").read_text().splitlines()
            found |= {f"λ/(2/lr) at {line['step']}": line["ratio"] for line in map(json.loads, lines)}
        rows.append(found)
    cached.write_text(json.dumps(rows, indent=1))
    return rows


def table(measured: dict[str, list[list[Row]]]) -> list[str]:
    """Return rows of mean ± standard deviation over seeds."""
    columns = list(next(iter(measured.values()))[0][0])
    lines = ["| run | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, seeds in measured.items():
        for place, kind in enumerate(["", " (average)"][: len(seeds[0])]):
            cells = [spread([rows[place][column] for rows in seeds], column) for column in columns]
            lines.append(f"| {name}{kind} | " + " | ".join(cells) + " |")
    return lines


def spread(values: list[float], column: str) -> str:
    """Return mean ± standard deviation."""
    scale = 100 if "accuracy" in column else 1
    mean = scale * statistics.mean(values)
    deviation = scale * statistics.stdev(values) if len(values) > 1 else 0.0
    digits = 2 if scale == 100 else None
    return f"{mean:.{digits}f} ± {deviation:.2f}" if digits else f"{mean:.3g} ± {deviation:.2g}"


def counted(claim: str, holds: Callable[[int], bool], seeds: int) -> str:
    """Return a claim with the number of seeds in which it holds."""
    times = sum(holds(seed) for seed in range(seeds))
    verdict = "holds" if times == seeds else "does not hold" if times == 0 else "is mixed"
    return f"- {claim}: **{verdict}** ({times} of {seeds} seeds)."


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, list[list[Row]]]] = {}
    for seed in range(asked.seeds):
        for paper in asked.only.split(","):
            for name in RUNS[paper]:
                rows = measure(asked.folder, paper, name, seed)
                found.setdefault(paper, {}).setdefault(name, []).append(rows)
                print(paper, name, seed, json.dumps(rows[-1]), flush=True)
    if set(found) == set(RUNS):
        DOC.write_text(page(found, asked.seeds, asked.threads), encoding="utf-8")
        print(f"wrote {DOC}")


def page(found: dict[str, dict[str, list[list[Row]]]], seeds: int, threads: int) -> str:
    """Return the page."""

    def value(paper: str, name: str, seed: int, column: str, place: int = 0) -> float:
        return found[paper][name][seed][place][column]

    def rises(paper: str, names: list[str], column: str, *, falling: bool = False) -> Callable[[int], bool]:
        def holds(seed: int) -> bool:
            values = [value(paper, name, seed, column) for name in names]
            return values == sorted(values, reverse=falling)

        return holds

    nets = {
        norm: [f"{name}, {norm}" for name in ("small batch 64", "large batch 400", "full batch")] for norm in ("BN", "no norm")
    }
    hoffer = list(RUNS["hoffer"])
    rates = [f"rate {lr}" for lr in (0.01, 0.1, 0.5)]

    def averaged(column: str, rate: str, *, more: bool) -> Callable[[int], bool]:
        return lambda seed: (value("nitanda", rate, seed, column, 1) > value("nitanda", rate, seed, column)) == more

    keskar = [
        counted(
            f"{symbol} is larger for the large batch than for the small one, {norm}", rises("keskar", names[:2], symbol), seeds
        )
        for symbol in ("λmax", "φ(0.001)", "φ(0.0005)")
        for norm, names in nets.items()
    ]
    keskar += [
        counted(
            f"The small batch travels further from its start, {norm}",
            rises("keskar", names[:2], "distance", falling=True),
            seeds,
        )
        for norm, names in nets.items()
    ]
    adapted = [hoffer[1], hoffer[2], hoffer[3], hoffer[0]]
    return TEXT.format(
        machine=f"Measured on {date.today()} at commit {_commit()}: {seeds} seeds, {threads} thread, "
        f"torch {torch.__version__}, Python {platform.python_version()}, CPU",
        keskar="\n".join([*table(found["keskar"]), "", *keskar]),
        hoffer="\n".join(
            [
                *table(found["hoffer"]),
                "",
                counted("λmax falls from large batch over + √ rate and + ghost batch norm to small batch",
                        rises("hoffer", adapted, "λmax", falling=True), seeds),
                counted("λmax of regime adaptation is the smallest",
                        lambda seed: min(hoffer, key=lambda name: value("hoffer", name, seed, "λmax")) == hoffer[4], seeds),
                counted("The test accuracy rises from large batch over + √ rate and + ghost batch norm to small batch",
                        rises("hoffer", adapted, "test accuracy"), seeds),
                counted("Regime adaptation is at least as accurate on test images as the small batch",
                        rises("hoffer", [hoffer[0], hoffer[4]], "test accuracy"), seeds),
            ]
        ),
        geiping="\n".join(
            [
                *table(found["geiping"]),
                "",
                counted("Full batch with the budget of SGD fits the training images worse than SGD",
                        rises("geiping", ["full batch, 40 steps", "SGD, 40 epochs"], "train accuracy"), seeds),
                counted("and is sharper", rises("geiping", ["SGD, 40 epochs", "full batch, 40 steps"], "λmax"), seeds),
                counted("Clipping and the penalty lower λmax step by step", rises(
                    "geiping", ["300 steps, rate 0.4", "+ clip 0.25", "+ penalty, rate 0.8"], "λmax", falling=True), seeds),
                counted("With clip and penalty, full batch is at least as accurate on test images as SGD",
                        rises("geiping", ["SGD, 40 epochs", "+ penalty, rate 0.8"], "test accuracy"), seeds),
            ]
        ),
        nitanda="\n".join(
            [
                *table(found["nitanda"]),
                "",
                *(counted(f"The average is more accurate on test images than the last iterate at {rate}",
                          averaged("test accuracy", rate, more=True), seeds) for rate in rates),
                *(counted(f"and is flatter at {rate}", averaged("λmax", rate, more=False), seeds) for rate in rates),
                counted("A larger step ends, averaged, where λmax is smaller", lambda seed: [
                    value("nitanda", rate, seed, "λmax", 1) for rate in rates] == sorted(
                        (value("nitanda", rate, seed, "λmax", 1) for rate in rates), reverse=True), seeds),
            ]
        ),
        cohen="\n".join(
            [
                *table(found["cohen"]),
                "",
                *(counted(f"From 400 updates on, λmax stays within 0.9 to 1.25 of 2/lr at {name}", lambda seed, name=name: all(
                    0.9 < value("cohen", name, seed, f"λ/(2/lr) at {step}") < 1.25 for step in range(400, 1201, 200)), seeds)
                  for name in RUNS["cohen"]),
            ]
        ),
    )  # fmt: skip


def _commit() -> str:
    """Return the commit of the working tree, in seven digits."""
    told = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], cwd=DOC.parent, capture_output=True, text=True, check=True)
    return told.stdout.strip()


TEXT = """# What the recipes do on Fashion-MNIST, at CPU scale

Written by `tools/measure_recipes.py`; nothing here was typed by hand. {machine}. Data: the first 2,000 to 10,000 training
images of fashion-mini and its 5,000 test images. Mean ± standard deviation over seeds; λmax and φ on 2,000 training images,
plain cross-entropy, BatchNorm in eval mode. Networks: F1 of width 128 (169,098 parameters with BatchNorm). The recipes are
shortened as stated, and without the papers' crops and flips: this shows orderings at a small scale, not the papers' numbers.
An ordering that does not come out is a finding about this scale, not about the paper.

## Keskar 2017: large batches end in sharper minima

`keskar-sb` and `keskar-lb` (Adam, 1e-3), 4,000 images, stopped at training loss 0.02. φ is a percentage, and a lower bound.

{keskar}

## Hoffer 2017: train longer

`hoffer-*`, 10,000 images, 20 epochs (regime adaptation: 160), rate 0.1 with drops at epochs 10 and 15. Losses at the end
differ, so λmax is not compared at one loss: where the loss is near 0, so is the curvature of cross-entropy.

{hoffer}

## Geiping 2022: full batch with explicit regularization

`geiping-*`, 4,000 images, a tenth of the steps of the paper; BatchNorm in fixed blocks of 128.

{geiping}

## Nitanda 2023: averaged SGD with large steps

`nitanda-tail`, 4,000 images, 40 epochs at a constant rate; the average is of the second half, with BatchNorm's statistics
recomputed.

{nitanda}

## Cohen 2021: the edge of stability

`eos-gd`, 2,000 images, tanh MLP 100-100, squared error, 1,200 updates; λmax of the loss that is descended, over 2/lr.

{cohen}
"""


if __name__ == "__main__":
    main()
