"""ε-sharpness by two L-BFGS-B solves and by one ascent on the device: `python -m benchmarks.sharpness [CKPT...]`.

Both run in turn in one process, on the sample checkpoints unless others are named; each value is a lower bound of the
same maximum, so the higher one is nearer to it.
"""

from __future__ import annotations

import argparse
import statistics

import torch

import sharpcli

_SAMPLES = tuple(f"sample_checkpoints/{mode}" for mode in ("sgd", "largebatch", "fullbatch"))


def main() -> None:
    """Print a row for each checkpoint and box: both values for each seed, the ascent's share, and how much faster it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharpness", description=__doc__)
    parser.add_argument("checkpoints", nargs="*", default=_SAMPLES)
    parser.add_argument("--seeds", type=int, default=3, help="each is a round of its own")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for checkpoint in asked.checkpoints:
        for epsilon in (1e-3, 5e-4):
            words = [f"epsilon-sharpness:epsilon={epsilon},solver={solver}" for solver in ("lbfgsb", "ascent,restarts=1")]
            rounds = [sharpcli.sharpness(checkpoint, measure=tuple(words), seed=seed).readings for seed in range(asked.seeds)]
            ratio = statistics.median(one.seconds / other.seconds for one, other in rounds)
            solves, ascents = ([reading.value or 0.0 for reading in readings] for readings in zip(*rounds, strict=True))
            shares = [second / first for first, second in zip(solves, ascents, strict=True)]
            print(
                f"| {checkpoint}, {epsilon:g} | {_listed(solves)} | {_listed(ascents)} "
                f"| {min(shares):.3f} to {max(shares):.3f} | {ratio:.1f} |"
            )


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    main()
