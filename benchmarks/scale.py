"""How the time of `hessian` changes with the number of processes: `python -m benchmarks.scale --json FILE`.

Strong scaling: the same samples on 1, 2, ... processes. Weak scaling: the samples grow with the processes. Each process has one
thread. What is timed is the analysis, without the start of the processes; the rounds alternate. A sum over the processes is
timed by itself, for vectors of several lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.conditions import processor
from benchmarks.whole import prepare, subject_words

_LENGTHS = (10**5, 10**6, 10**7)
_SUMS = """
import json, time, torch
from sharpcli import processes
with processes.joined() as together:
    found = []
    for length in {lengths}:
        part = torch.ones(length, dtype=torch.float64)
        moments = []
        for _ in range(8):
            began = time.perf_counter()
            together.sum(part, part)
            moments.append(time.perf_counter() - began)
        found.append(min(moments))
    if together.rank == 0:
        print(json.dumps(found))
"""


def together(words: list[str], count: int, folder: Path) -> str:
    """Run a Python command in several processes on this machine, each with one thread; return what the first one prints."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    root = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": root},
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(count)
    ]
    printed = [process.communicate()[0] for process in started][0]
    if started[0].returncode:
        raise SystemExit(f"The run with {count} processes has failed.")
    return printed


def seconds(count: int, images: int, topk: int, folder: Path) -> tuple[float, float, int]:
    """Return the seconds of an analysis, its first eigenvalue, and the number of its products."""
    words = ["-m", "sharpcli", "hessian", "run/sgd", "--topk", str(topk), "--samples", str(images), "--json", *subject_words()]
    found = json.loads(together(words, count, folder))["result"]
    return found["seconds"], found["eigenvalues"][0]["value"], found["products"]


# Measured on one H100: a product of GPT-2 small (P = 124e6) over 8 × 512 tokens takes 0.31 s; see docs/performance.md.
_SECONDS = 0.31 / (124e6 * 8 * 512)  # For a parameter and a token.
_TOKENS, _PRODUCTS, _DEVICE, _LINK = 10**6, 90, 80e9, 25e9  # Bytes of a device; bytes a second between machines.
_VECTORS = 100  # Of a search for 20 eigenvalues.
_WORKING = 40  # Bytes for a parameter: weights, their copies, a vector, and sums in float64.


def on_paper() -> None:
    """Print what the 20 largest eigenvalues of a transformer would cost, from the figures above; nothing is measured here."""
    for parameters in (1e8, 1e9, 1e10):
        for devices in (1, 8, 64):
            product = _SECONDS * parameters * _TOKENS / devices
            exchange = 2 * 8 * parameters / _LINK if devices > 1 else 0.0
            vectors, working = 4 * _VECTORS * parameters / devices, _WORKING * parameters
            fits = "yes" if vectors + working < _DEVICE else "no: weights" if working > _DEVICE else "no: vectors"
            hours = _PRODUCTS * (product + exchange) / 3600
            print(
                f"| {parameters:.0e} | {devices} | {product:.3g} | {exchange:.2g} | {hours:.2g} | {vectors / 1e9:.3g} | "
                f"{working / 1e9:.3g} | {fits} |"
            )


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="convnet")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--topk", type=int, default=20)
    parser.add_argument("--only", choices=["strong", "weak"], help="measure this kind only")
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--paper", action="store_true", help="print the table of estimates instead")
    asked = parser.parse_args()
    if asked.paper:
        on_paper()
        return
    counts = [int(count) for count in asked.processes.split(",")]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, asked.net, asked.images)
        for kind in (asked.only,) if asked.only else ("strong", "weak"):
            found: dict[int, list[tuple[float, float, int]]] = {count: [] for count in counts}
            for _ in range(asked.rounds):
                for count in counts:
                    images = asked.images if kind == "strong" else asked.images * count // counts[-1]
                    found[count].append(seconds(count, images, asked.topk, folder))
            for count, runs in found.items():
                ratio = statistics.median(one[0] / run[0] for one, run in zip(found[counts[0]], runs, strict=True))
                taken = statistics.median(run[0] for run in runs)
                rows.append({"kind": kind, "processes": count, "seconds": taken, "times_one": ratio, "products": runs[0][2]})
                print(f"{kind:6} {count} processes  {taken:7.1f} s  {ratio:5.2f}  {runs[0][2]} products  λmax {runs[0][1]:.7g}")
        for count in (count for count in counts if count > 1):
            times = json.loads(together(["-c", _SUMS.format(lengths=_LENGTHS)], count, folder))
            for length, taken in zip(_LENGTHS, times, strict=True):
                rows.append({"kind": "sum", "processes": count, "length": length, "seconds": taken})
                print(f"sum    {count} processes  {1e3 * taken:7.2f} ms  {length} numbers in float64")
    print(f"{processor()}, one thread a process, load {os.getloadavg()[0]:.2f}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
