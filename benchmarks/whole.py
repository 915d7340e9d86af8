"""From the start of the process to the answer: `python -m benchmarks.whole --images 10000 --json FILE`.

The 20 largest Hessian eigenvalues over a whole data set, by `sharpcli hessian` and by a script for each peer, as its
documentation writes it: a model, a DataLoader, the operator, the solver. Each runs in a process of its own; what is timed
is the whole process, imports and reading of files included. The rounds alternate, and the table has medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy

from benchmarks.conditions import processor

_CLASSES, _SIDE, _STRENGTH = 10, 28, 0.8
_TOOLS = ("sharpcli", "curvlinops", "hessian-eigenthings", "hessian-eigenthings, 200 steps")
_NETS = {
    "mlp": "nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)",
    "convnet": (
        "nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), "
        "nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10)"
    ),
}
_FILE = """
from torch import nn

def net(input_shape=None, num_classes=None):
    return nn.Sequential({layers})
"""


def prepare(folder: Path, net: str, images: int) -> None:
    """Write the data, the code of the net and a trained checkpoint, which all tools read."""
    random = numpy.random.default_rng(0)
    labels = random.integers(0, _CLASSES, images)
    centres = random.normal(size=(_CLASSES, 1, _SIDE, _SIDE))
    inputs = (_STRENGTH * centres[labels] + random.normal(size=(images, 1, _SIDE, _SIDE))).astype(numpy.float32)
    test = slice(0, 100)
    numpy.savez(folder / "data.npz", x_train=inputs, y_train=labels, x_test=inputs[test], y_test=labels[test])
    (folder / "net.py").write_text(_FILE.format(layers=_NETS[net]))
    words = ["train", "--mode", "sgd", "--epochs", "1", "--lr", "0.02", "--out", "run", *subject_words()]
    subprocess.run([sys.executable, "-m", "sharpcli", *words], cwd=folder, check=True, capture_output=True)


def subject_words() -> list[str]:
    """Return the words of a command line that name the net and the data."""
    return ["--model", "net.py:net", "--data", "npz:data.npz"]


def command(tool: str, batch: int) -> list[str]:
    """Return the command line of a tool."""
    if tool == "sharpcli":
        return [sys.executable, "-m", "sharpcli", "hessian", "run/sgd", "--topk", "20", "--json", *subject_words()]
    return [sys.executable, "-m", "benchmarks.whole_peers", tool, str(batch)]


def timed(tool: str, folder: Path, batch: int, threads: int) -> tuple[float, list[float], int]:
    """Return the seconds of a process, the eigenvalues that it has printed, and the number of its products."""
    places = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": places}
    began = time.perf_counter()
    done = subprocess.run(command(tool, batch), cwd=folder, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    answer = json.loads(done.stdout)
    if tool == "sharpcli":
        found = answer["result"]
        return seconds, [pair["value"] for pair in found["eigenvalues"]], found["products"]
    return seconds, answer["values"], answer["products"]


def measure(net: str, images: int, batch: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row for each tool: median seconds, times ours, products, and the largest relative difference from ours."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, net, images)
        found: dict[str, list[tuple[float, list[float], int]]] = {tool: [] for tool in _TOOLS}
        for number in range(rounds):
            for tool in _TOOLS:
                found[tool].append(timed(tool, folder, batch, threads))
                sys.stderr.write(f"round {number + 1}, {net}, {tool}: {found[tool][-1][0]:.1f} s\n")
    ours = found["sharpcli"]
    rows = []
    for tool, runs in found.items():
        ratios = [run[0] / own[0] for run, own in zip(runs, ours, strict=True)]
        values = numpy.array(runs[0][1])
        off = float(numpy.abs(values / numpy.array(ours[0][1]) - 1).max())
        rows.append(
            {
                "net": net,
                "images": images,
                "threads": threads,
                "tool": tool,
                "seconds": statistics.median(run[0] for run in runs),
                "times_ours": statistics.median(ratios),
                "products": runs[0][2],
                "largest_difference": off,
            }
        )
    return rows


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=tuple(_NETS), action="append", help="default: all")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=500, help="batch size of the peers' DataLoader")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for net in asked.net or _NETS:
        rows += measure(net, asked.images, asked.batch, asked.threads, asked.rounds)
    print(f"{processor()}, {asked.threads} threads, load {os.getloadavg()[0]:.2f}")
    for row in rows:
        print(
            f"{row['net']:8} {row['images']:6} images  {row['tool']:31} {row['seconds']:7.1f} s  {row['times_ours']:5.2f} x  "
            f"{row['products']:4} products  {row['largest_difference']:.0e}"
        )
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
